//! What a process that a test starts is to find wrong with its device, said by the environment.

use crate::{EmulatorError, Fault, Properties};

/// The variable: words apart by spaces. `trap:30` is a [`Fault`] after 30 occasions without it;
/// `capability:7.5`, `driver:12.4`, `memory:1000000` and `resets:false` are [`Properties`].
pub const VARIABLE: &str = "ONWARD_EMULATED";

/// What the variable says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) properties: Properties,
    /// Each with the occasions that it spares.
    pub(crate) faults: Vec<(Fault, u64)>,
}

impl Wishes {
    /// What this process is to find.
    pub(crate) fn of_process() -> Result<Self, EmulatorError> {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let mut wishes = Self::default();
        for word in text.split_whitespace() {
            wishes.add(word).ok_or_else(|| EmulatorError::Unknown {
                word: word.to_owned(),
            })?;
        }
        Ok(wishes)
    }

    fn add(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once(':')?;
        let properties = &mut self.properties;
        match name {
            "capability" => properties.capability = version(value)?,
            "driver" => properties.driver = version(value)?,
            "memory" => properties.memory = value.parse().ok()?,
            "resets" => properties.resets = value.parse().ok()?,
            _ => self.faults.push((fault(name)?, value.parse().ok()?)),
        }
        Some(())
    }
}

fn version(text: &str) -> Option<(u8, u8)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn fault(name: &str) -> Option<Fault> {
    Some(match name {
        "allocation" => Fault::Allocation,
        "pinned-allocation" => Fault::PinnedAllocation,
        "launch" => Fault::Launch,
        "trap" => Fault::Trap,
        "hang" => Fault::Hang,
        "capture" => Fault::Capture,
        "capture-memory" => Fault::CaptureMemory,
        "instantiation" => Fault::Instantiation,
        "condition" => Fault::Condition,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_properties_and_faults() {
        let mut wishes = Wishes::default();
        for word in ["capability:7.5", "memory:1000", "hang:3", "resets:false"] {
            wishes.add(word).unwrap();
        }
        let expected = Properties {
            capability: (7, 5),
            memory: 1000,
            resets: false,
            ..Properties::default()
        };
        assert_eq!(wishes.properties, expected);
        assert_eq!(wishes.faults, [(Fault::Hang, 3)]);
        for word in ["trap", "trap:x", "noise:1", "driver:12"] {
            assert_eq!(wishes.add(word), None, "{word}");
        }
    }
}
