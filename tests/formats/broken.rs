//! Broken files at the reader: one sentence each, at once, and without taking memory for what
//! the file only claims.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use onward_engine::formats::gguf::{Value, ValueType};
use onward_engine::formats::{FormatError, Gguf};
use onward_tests::broken::{Broken, fresh, layout, meaning};
use onward_tests::gguf_file::GgufFile;
use onward_tests::tiny_model::{self, Random};

use crate::memory::peak_of;

/// Reads everything there is to read in a file, as a model's loading and `inspect` do.
fn read(path: &Path) -> Result<usize, FormatError> {
    let gguf = Gguf::open(path)?;
    let mut n_read = 0;
    for (key, value) in gguf.metadata() {
        if let Value::Array(array) = value {
            n_read += match array.element() {
                ValueType::String => gguf.strings(key)?.map_or(0, |strings| strings.len()),
                ValueType::Bool => gguf.bools(key)?.map_or(0, |bools| bools.len()),
                ValueType::F32 | ValueType::F64 => gguf.f32s(key)?.map_or(0, |f32s| f32s.len()),
                _ => gguf.i32s(key).ok().flatten().map_or(0, |i32s| i32s.len()),
            };
        }
    }
    for view in gguf.tensors() {
        let row_bytes = view.format.row_bytes(*view.shape.last().unwrap()).unwrap();
        let rows: usize = view.shape[..view.shape.len() - 1].iter().product();
        assert_eq!(view.data.len(), rows * row_bytes, "{}", view.name);
        n_read += usize::from(view.data[0]) + usize::from(view.data[view.data.len() - 1]);
    }
    Ok(n_read)
}

/// Memory that reading may take: what the tables of a sound file need, and no more than a few
/// times what is really in the file.
fn memory_limit(file_bytes: usize) -> usize {
    (1 << 16) + 4 * file_bytes
}

/// What is wrong with how a file is refused.
fn complaint(broken: &Broken, path: &Path) -> Option<String> {
    broken.write(path).unwrap();
    let start = Instant::now();
    let (result, peak) = peak_of(|| read(path));
    let elapsed = start.elapsed();
    let Err(error) = result else {
        return Some("was not refused".to_owned());
    };
    let sentence = error.to_string();
    let clauses = [
        (
            sentence.contains(&broken.says),
            "does not say what it should",
        ),
        (
            sentence.starts_with(path.to_str().unwrap()),
            "does not name the file",
        ),
        (!sentence.contains(['\n', '\x1b']), "is not one clean line"),
        (sentence.len() < path.as_os_str().len() + 300, "is long"),
        (elapsed < Duration::from_secs(1), "took a second"),
        (peak < memory_limit(broken.bytes.len()), "took memory"),
    ];
    clauses
        .into_iter()
        .find(|(holds, _)| !holds)
        .map(|(_, what)| format!("{what}: {sentence:?}, {elapsed:?}, {peak} bytes"))
}

fn assert_refused(all: &[Broken]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.gguf");
    let complaints: Vec<String> = all
        .iter()
        .filter_map(|broken| Some(format!("{}: {}", broken.name, complaint(broken, &path)?)))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn broken_layouts_are_refused_in_one_sentence() {
    let all = layout::all();
    assert!(all.len() >= 60, "{} files", all.len());
    assert_refused(&all);
}

#[test]
fn files_cut_anywhere_are_refused() {
    let cuts = layout::cuts();
    assert!(cuts.len() > 1000, "{} cuts", cuts.len());
    assert_refused(&cuts);
}

/// Arrays of empty strings, which are zeros and so take no room on the disk, one after another.
#[test]
fn a_header_may_not_go_on_and_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endless.gguf");
    let mut file = fresh(&path).unwrap();
    let head = GgufFile {
        n_metadata: Some(10_000),
        ..GgufFile::default()
    };
    file.write_all(&head.bytes()[..24]).unwrap();
    for index in 0..40u64 {
        let mut array = 2u64.to_le_bytes().to_vec();
        array.extend(format!("{index:02}").bytes());
        array.extend([9, 0, 0, 0, 8, 0, 0, 0]);
        array.extend((2_000_000u64).to_le_bytes());
        file.write_all(&array).unwrap();
        file.seek(SeekFrom::Current(16_000_000)).unwrap();
    }
    file.set_len(1 << 30).unwrap();
    let start = Instant::now();
    let sentence = read(&path).unwrap_err().to_string();
    assert!(
        sentence.contains("bytes that a header may take"),
        "{sentence}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn files_without_meaning_are_still_sound_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meaning.gguf");
    for broken in meaning::all() {
        broken.write(&path).unwrap();
        read(&path).unwrap_or_else(|error| panic!("{}: {error}", broken.name));
    }
}

/// Random damage: bytes flipped in the header, numbers overwritten with extreme ones, ends cut
/// off. Whatever comes of it, there is no panic and no memory for mere claims.
#[test]
fn random_damage_does_no_harm() {
    let written = tiny_model::llama().write();
    let head = written.boundaries[written.boundaries.len() - 60];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.gguf");
    let mut random = Random(7);
    let mut refused = 0;
    const TRIES: usize = 4000;
    for attempt in 0..TRIES {
        let mut bytes = written.bytes.clone();
        for _ in 0..1 + random.below(3) {
            let place = random.below(head);
            match random.below(4) {
                0 => bytes[place] ^= 1 << random.below(8),
                1 => bytes[place] = random.bits() as u8,
                2 => {
                    let extreme = [0, 1, u64::MAX, 1 << 63, 1 << 32, u64::from(u32::MAX)];
                    let number: u64 = extreme[random.below(extreme.len())];
                    bytes[place..place + 8].copy_from_slice(&number.to_le_bytes());
                }
                _ => {
                    let boundary = written.boundaries[random.below(written.boundaries.len())];
                    bytes[boundary..boundary + 4].copy_from_slice(&random.bits().to_le_bytes());
                }
            }
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        fresh(&path).unwrap().write_all(&bytes).unwrap();
        let (result, peak) = peak_of(|| read(&path));
        assert!(
            peak < memory_limit(bytes.len()),
            "attempt {attempt}: {peak} bytes"
        );
        if let Err(error) = result {
            let sentence = error.to_string();
            assert!(!sentence.contains('\n'), "attempt {attempt}: {sentence}");
            refused += 1;
        }
    }
    assert!(
        (TRIES / 4..TRIES).contains(&refused),
        "{refused} of {TRIES} were refused"
    );
}
