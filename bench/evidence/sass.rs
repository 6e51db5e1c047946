//! What `nvdisasm` prints of a cubin, as far as the evidence needs it: each kernel's
//! instructions, its innermost hot loop, and its launch bound.

use std::collections::HashMap;
use std::ops::Range;

/// An instruction of a GPU's machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The mnemonic with its modifiers: `LDG.E.128.CONSTANT`.
    pub name: String,
    /// What follows it, up to the semicolon.
    pub operands: String,
}

impl Instruction {
    /// The mnemonic without modifiers: `LDG`.
    pub fn operation(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// Whether `modifier` is one of those behind the mnemonic.
    fn has(&self, modifier: &str) -> bool {
        self.name.split('.').skip(1).any(|part| part == modifier)
    }

    /// Bytes that each thread moves, for a load or store.
    pub fn bytes(&self) -> usize {
        let widths = [
            ("128", 16),
            ("64", 8),
            ("U16", 2),
            ("S16", 2),
            ("U8", 1),
            ("S8", 1),
        ];
        let found = widths.iter().find(|(modifier, _)| self.has(modifier));
        found.map_or(4, |&(_, bytes)| bytes)
    }
}

/// An instruction, or a label that branches name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Label(String),
    Instruction(Instruction),
}

/// The code of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    lines: Vec<Line>,
    /// Threads of a block at most, as its launch bounds declare; none where they do not.
    pub max_threads: Option<u32>,
}

impl Kernel {
    /// All instructions, in order.
    pub fn instructions(&self) -> impl Iterator<Item = &Instruction> {
        instructions(&self.lines)
    }

    /// Of the loops around an `operation` that have no such loop inside them, the one with the
    /// most: from a label to the branch back to it.
    pub fn hottest_loop(&self, operation: &str) -> Option<Vec<&Instruction>> {
        let count = |lines: &[Line]| {
            instructions(lines)
                .filter(|instruction| instruction.operation() == operation)
                .count()
        };
        let loops: Vec<Range<usize>> = self
            .loops()
            .into_iter()
            .filter(|body| count(&self.lines[body.clone()]) > 0)
            .collect();
        let is_innermost = |body: &&Range<usize>| {
            let inside = |other: &Range<usize>| {
                other != *body && other.start >= body.start && other.end <= body.end
            };
            !loops.iter().any(inside)
        };
        let body = loops
            .iter()
            .filter(is_innermost)
            .max_by_key(|body| count(&self.lines[(*body).clone()]))?;
        Some(instructions(&self.lines[body.clone()]).collect())
    }

    /// Where a branch goes back: the lines from its target to itself.
    fn loops(&self) -> Vec<Range<usize>> {
        let mut labels = HashMap::new();
        let mut loops = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            match line {
                Line::Label(label) => {
                    labels.insert(label.as_str(), at);
                }
                Line::Instruction(branch) if branch.operation() == "BRA" => {
                    if let Some(&start) = target(branch).and_then(|label| labels.get(label)) {
                        loops.push(start..at + 1);
                    }
                }
                Line::Instruction(_) => {}
            }
        }
        loops
    }
}

fn instructions(lines: &[Line]) -> impl Iterator<Item = &Instruction> {
    lines.iter().filter_map(|line| match line {
        Line::Instruction(instruction) => Some(instruction),
        Line::Label(_) => None,
    })
}

/// The label in "UP0, `(.L_x_3)".
fn target(branch: &Instruction) -> Option<&str> {
    let (_, rest) = branch.operands.split_once("`(")?;
    rest.split_once(')').map(|(label, _)| label)
}

/// A cubin, disassembled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// By kernel name.
    pub kernels: HashMap<String, Kernel>,
    /// What `ptxas` calls itself: "Cuda compilation tools, release 13.0, V13.0.88".
    pub compiler: String,
}

/// Reads what `nvdisasm FILE.cubin` prints.
///
/// A section begins with `.section .text.NAME,…` or `.section .nv.info.NAME,…`; code has lines like
/// `/*0040*/ @!P0 LDG.E.128 R4, desc[UR6][R2.64] ;` and labels like `.L_x_3:`.
pub fn parse(text: &str) -> Listing {
    let mut listing = Listing::default();
    let mut section = "";
    let mut attribute = "";
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix(".section\t") {
            section = rest.split(',').next().unwrap_or_default().trim();
        } else if let Some(name) = section.strip_prefix(".text.") {
            let kernel = listing.kernels.entry(name.to_owned()).or_default();
            kernel.lines.extend(code(line));
        } else if let Some(name) = section.strip_prefix(".nv.info.") {
            if let Some((_, named)) = line.split_once("nvinfo : ") {
                attribute = named;
            } else if let Some(word) = word(line).filter(|_| attribute == "EIATTR_MAX_THREADS") {
                // Three words, x y z; a kernel's block has one dimension.
                let kernel = listing.kernels.entry(name.to_owned()).or_default();
                kernel.max_threads.get_or_insert(word);
            }
        } else if line.contains("\"Cuda compilation tools") {
            listing.compiler = line.split('"').nth(1).unwrap_or_default().to_owned();
        }
    }
    listing
}

/// `/*00e8*/ .word 0x00000200`.
fn word(line: &str) -> Option<u32> {
    let (_, number) = line.split_once(".word")?;
    u32::from_str_radix(number.trim().strip_prefix("0x")?, 16).ok()
}

fn code(line: &str) -> Option<Line> {
    if let Some(label) = line.strip_suffix(':') {
        return label
            .starts_with(".L_")
            .then(|| Line::Label(label.to_owned()));
    }
    let (_, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let mut rest = rest.trim_start_matches(['{', ' ', '\t']);
    if rest.starts_with('@') {
        rest = rest.split_once(char::is_whitespace)?.1.trim_start();
    }
    if !rest.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    let (name, operands) = rest.split_once([' ', ';'])?;
    Some(Line::Instruction(Instruction {
        name: name.to_owned(),
        operands: operands.trim_end_matches([' ', ';', '}']).trim().to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of a real listing, shortened.
    const LISTING: &str = include_str!("sample.sass");

    #[test]
    fn kernels_have_their_instructions_bounds_and_compiler() {
        let listing = parse(LISTING);
        assert_eq!(
            listing.compiler,
            "Cuda compilation tools, release 13.0, V13.0.88"
        );
        assert_eq!(listing.kernels.len(), 2);
        let kernel = &listing.kernels["decode"];
        assert_eq!(kernel.max_threads, Some(0x100));
        assert_eq!(kernel.instructions().count(), 16);
        let first = kernel.instructions().next().expect("an instruction");
        assert_eq!(
            (first.name.as_str(), first.operands.as_str()),
            ("LDC", "R1, c[0x0][0x28]")
        );
        assert_eq!(listing.kernels["plain"].max_threads, None);
    }

    #[test]
    fn a_predicate_or_a_brace_is_no_part_of_the_name() {
        let read = |line: &str| match code(line) {
            Some(Line::Instruction(instruction)) => instruction,
            other => panic!("{line}: {other:?}"),
        };
        let load = read("/*0040*/                  @!P0 LDG.E.128.CONSTANT R4, desc[UR6][R2.64] ;");
        assert_eq!(load.name, "LDG.E.128.CONSTANT");
        assert_eq!((load.operation(), load.bytes()), ("LDG", 16));
        let dual = read("/*0050*/  {             @UP0 IMAD R1, R2, R3, R4 ; }");
        assert_eq!(
            (dual.name.as_str(), dual.operands.as_str()),
            ("IMAD", "R1, R2, R3, R4")
        );
        assert_eq!(read("/*0060*/ EXIT ;").name, "EXIT");
        assert_eq!(read("/*0060*/ LDG.E.U8 R1, desc[UR6][R2.64] ;").bytes(), 1);
        assert_eq!(code("/*0010*/ .byte 0x04, 0x05"), None);
        assert_eq!(code(".type rms_norm,@function"), None);
    }

    #[test]
    fn the_hottest_loop_is_the_innermost_one_with_the_most_mma() {
        let listing = parse(LISTING);
        let body = listing.kernels["decode"]
            .hottest_loop("HMMA")
            .expect("a loop");
        let names: Vec<&str> = body
            .iter()
            .map(|instruction| instruction.operation())
            .collect();
        // The outer loop has an HMMA more; the forward branch is no loop, and HFMA2.MMA is a
        // multiply-add of lanes.
        assert_eq!(names, ["LDG", "HMMA", "HFMA2", "HMMA", "BRA"]);
        assert_eq!(listing.kernels["plain"].hottest_loop("HMMA"), None);
    }
}
