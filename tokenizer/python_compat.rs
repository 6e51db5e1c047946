//! What chat templates expect of Python: string methods, `json.dumps`, `datetime.strftime`.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Bytes of a string that cost a unit of fuel when a method works on it.
const BYTES_PER_METHOD_FUEL: u64 = 16;
/// Widest indentation of [`tojson`]; it multiplies the output.
const MAX_INDENT: usize = 16;
/// Deepest nesting that [`tojson`] follows.
const MAX_DEPTH: usize = 64;

/// Python's methods of strings, lists and mappings, paid for before they run: their results may
/// take many times the memory of what they work on.
pub(crate) fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64 / BYTES_PER_METHOD_FUEL)?;
        if method == "format" {
            state.consume_fuel(format_cost(text, args)?)?;
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Bound on the output of `str.format`, in units of fuel of 64 bytes: every field may hold all
/// arguments and be as wide as the numbers in the format say.
fn format_cost(format: &str, args: &[Value]) -> Result<u64, Error> {
    let mut argument_bytes = 0;
    for arg in args {
        argument_bytes += match arg.kind() {
            ValueKind::String => arg.as_str().map_or(0, str::len) as u64,
            ValueKind::Undefined | ValueKind::None | ValueKind::Bool | ValueKind::Number => 64,
            kind => {
                let detail = format!("str.format does not take a {kind}");
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        };
    }
    let n_fields = format.bytes().filter(|&byte| byte == b'{').count() as u64;
    let numbers = format
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty());
    let widths = numbers.map(|digits| digits.parse().unwrap_or(u64::MAX));
    let width = widths.fold(0, u64::saturating_add);
    Ok(n_fields
        .saturating_mul(argument_bytes)
        .saturating_add(width)
        / 64)
}

/// The filter `tojson` as `transformers` defines it: `json.dumps` with `ensure_ascii=False`.
pub(crate) fn tojson(
    value: &Value,
    indent: Option<usize>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get("indent")?,
    };
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut writer = JsonWriter {
        text: String::new(),
        indent: indent.map(|width| width.min(MAX_INDENT)),
    };
    writer.write(value, 0)?;
    Ok(writer.text)
}

/// JSON with the separators of `json.dumps`.
struct JsonWriter {
    text: String,
    indent: Option<usize>,
}

impl JsonWriter {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(not_json("it is nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool if value.is_true() => self.text.push_str("true"),
            ValueKind::Bool => self.text.push_str("false"),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.write_string(value)?,
            ValueKind::Seq | ValueKind::Iterable => {
                self.text.push('[');
                let mut is_empty = true;
                for item in value.try_iter()? {
                    self.separate(is_empty, depth + 1);
                    is_empty = false;
                    self.write(&item, depth + 1)?;
                }
                self.close(']', is_empty, depth);
            }
            ValueKind::Map => {
                self.text.push('{');
                let mut is_empty = true;
                for key in value.try_iter()? {
                    self.separate(is_empty, depth + 1);
                    is_empty = false;
                    self.write_string(&key)?;
                    self.text.push_str(": ");
                    self.write(&value.get_item(&key)?, depth + 1)?;
                }
                self.close('}', is_empty, depth);
            }
            kind => return Err(not_json(&format!("it contains a {kind}"))),
        }
        Ok(())
    }

    fn write_string(&mut self, value: &Value) -> Result<(), Error> {
        let text = value
            .as_str()
            .ok_or_else(|| not_json("a key is not a string"))?;
        self.text
            .push_str(&serde_json::to_string(text).map_err(|error| not_json(&error.to_string()))?);
        Ok(())
    }

    fn separate(&mut self, is_first: bool, depth: usize) {
        match (is_first, self.indent) {
            (true, None) => {}
            (false, None) => self.text.push_str(", "),
            (is_first, Some(_)) => {
                self.text.push_str(if is_first { "" } else { "," });
                self.break_line(depth);
            }
        }
    }

    fn close(&mut self, bracket: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.break_line(depth);
        }
        self.text.push(bracket);
    }

    fn break_line(&mut self, depth: usize) {
        if let Some(width) = self.indent {
            self.text.push('\n');
            self.text.push_str(&" ".repeat(width * depth));
        }
    }
}

fn not_json(reason: &str) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("the value cannot be written as JSON: {reason}"),
    )
}

/// The function `strftime_now(format)`: the present date and time, in UTC.
pub(crate) fn strftime_now(format: &str) -> Result<String, Error> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since_epoch
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?
        .as_secs();
    strftime(format, seconds)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// The directives of `strftime` that templates use, for seconds since 1970 in UTC.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    let month_name = MONTHS[month as usize - 1];
    let weekday = WEEKDAYS[((days + 4) % 7) as usize];
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let piece = match chars.next() {
            Some('Y') => format!("{year:04}"),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('-') if chars.as_str().starts_with('d') => {
                chars.next();
                day.to_string()
            }
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let directive = other.map_or_else(String::new, String::from);
                let detail = format!("strftime_now does not know %{directive}");
                return Err(Error::new(ErrorKind::InvalidOperation, detail));
            }
        };
        text.push_str(&piece);
    }
    Ok(text)
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_as_python_writes_them() {
        let all = "%Y-%m-%d %H:%M:%S %a %A %b %B %y %I %p %%";
        let cases = [
            (0, "1970-01-01 00:00:00 Thu Thursday Jan January 70 12 AM %"),
            (
                951_827_696,
                "2000-02-29 12:34:56 Tue Tuesday Feb February 00 12 PM %",
            ),
            (
                1_735_689_599,
                "2024-12-31 23:59:59 Tue Tuesday Dec December 24 11 PM %",
            ),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime(all, seconds).ok().as_deref(), Some(expected));
        }
        assert!(strftime("%Q", 0).is_err());
    }
}
