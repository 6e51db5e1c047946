//! Files that break the rules of GGUF.

use super::{Broken, changed, table};
use crate::gguf_file::{GgufFile, Meta};
use crate::tiny_model;

/// Every file, but for those that are cut short.
pub fn all() -> Vec<Broken> {
    let base = tiny_model::llama();
    let mut all = header(&base);
    all.extend(keys(&base));
    all.extend(values(&base));
    all.extend(arrays(&base));
    all.extend(table::all(&base));
    all
}

/// The sound file cut at every boundary between two fields, and one byte after each.
pub fn cuts() -> Vec<Broken> {
    let written = tiny_model::llama().write();
    let mut places: Vec<usize> = written
        .boundaries
        .iter()
        .flat_map(|&place| [place, place + 1])
        .filter(|&place| place > 0 && place < written.bytes.len())
        .collect();
    places.dedup();
    places
        .into_iter()
        .map(|place| {
            let says = if place < 4 { "GGUF" } else { "" };
            Broken::of_bytes(
                format!("cut after {place} bytes"),
                written.bytes[..place].to_vec(),
                says,
            )
        })
        .collect()
}

/// A few of [`cuts`], one in each part of the file.
pub fn some_cuts() -> Vec<Broken> {
    let cuts = cuts();
    let step = cuts.len() / 16;
    cuts.into_iter().step_by(step.max(1)).collect()
}

type Change = fn(&mut GgufFile);

fn each(base: &GgufFile, cases: &[(&str, Change, &str)]) -> Vec<Broken> {
    cases
        .iter()
        .map(|(name, change, says)| Broken::new(*name, &changed(base, change), says))
        .collect()
}

fn header(base: &GgufFile) -> Vec<Broken> {
    each(
        base,
        &[
            ("another magic", |f| f.magic = *b"GGUX", "not a GGUF file"),
            ("a legacy magic", |f| f.magic = *b"tjgg", "legacy GGML"),
            ("version 0", |f| f.version = 0, "version 0 is not supported"),
            ("version 1", |f| f.version = 1, "version 1 is not supported"),
            ("version 4", |f| f.version = 4, "version 4 is not supported"),
            ("big-endian", |f| f.version = 3 << 24, "big-endian"),
            (
                "2^64 - 1 tensors",
                |f| f.n_tensors = Some(u64::MAX),
                "claims 18446744073709551615 tensors",
            ),
            (
                "2^59 tensors, whose size overflows",
                |f| f.n_tensors = Some(1 << 59),
                "claims 576460752303423488 tensors",
            ),
            (
                "one tensor too many",
                |f| f.n_tensors = Some(f.tensors.len() as u64 + 1),
                "tensor 21",
            ),
            (
                "2^64 - 1 metadata pairs",
                |f| f.n_metadata = Some(u64::MAX),
                "claims 18446744073709551615 metadata pairs",
            ),
            (
                "one metadata pair too many",
                |f| f.n_metadata = Some(f.metadata.len() as u64 + 1),
                "the name of tensor 0",
            ),
            (
                "one metadata pair too few",
                |f| f.n_metadata = Some(f.metadata.len() as u64 - 1),
                "tensor tokenizer.chat_template",
            ),
            (
                "a part of a split model",
                |f| f.set("split.count", Meta::Raw(2, vec![3, 0])),
                "one of 3 parts",
            ),
        ],
    )
}

fn keys(base: &GgufFile) -> Vec<Broken> {
    let mut all = each(
        base,
        &[
            (
                "an empty key",
                |f| f.metadata.push((String::new(), Meta::U8(0))),
                "is empty",
            ),
            (
                "a key of 70000 bytes",
                |f| f.metadata.push(("k".repeat(70_000), Meta::U8(0))),
                "claims to be 70000 bytes long",
            ),
            (
                "a key twice",
                |f| f.metadata.push(("general.name".to_owned(), Meta::U8(0))),
                "key general.name stands there twice",
            ),
        ],
    );
    all.push(patched(
        "a key that is not UTF-8",
        base,
        b"general.name",
        b"general.\xffame",
        "not valid UTF-8",
    ));
    all
}

fn values(base: &GgufFile) -> Vec<Broken> {
    let raw = |type_id: u32, bytes: &[u8], says: &str, name: &str| {
        let file = changed(base, |f| f.set("t.odd", Meta::Raw(type_id, bytes.to_vec())));
        Broken::new(name, &file, says)
    };
    let huge = u64::MAX.to_le_bytes();
    let beyond = (1u64 << 20).to_le_bytes();
    let mut all = vec![
        raw(
            13,
            &[0; 8],
            "key t.odd has the unknown type 13",
            "value type 13",
        ),
        raw(
            u32::MAX,
            &[0; 8],
            "unknown type 4294967295",
            "value type 2^32 - 1",
        ),
        raw(7, &[2], "is a bool with the value 2", "a bool of 2"),
        raw(
            8,
            &huge,
            "claims to be 18446744073709551615 bytes long",
            "a string of 2^64 - 1 bytes",
        ),
        raw(
            8,
            &beyond,
            "the file ends inside the value of key t.odd",
            "a string longer than the file",
        ),
    ];
    all.push(patched(
        "a string that is not UTF-8",
        base,
        b"tiny random",
        b"tiny\xc3random",
        "general.name is not valid UTF-8",
    ));
    all
}

fn arrays(base: &GgufFile) -> Vec<Broken> {
    let raw = |element: u32, count: u64, elements: &[u8], says: &str, name: &str| {
        let mut bytes = element.to_le_bytes().to_vec();
        bytes.extend(count.to_le_bytes());
        bytes.extend(elements);
        let file = changed(base, |f| f.set("t.odd", Meta::Raw(9, bytes)));
        Broken::new(name, &file, says)
    };
    let mut nested = 9u32.to_le_bytes().to_vec();
    nested.extend(1u64.to_le_bytes());
    let nested = nested.repeat(1000);
    let mut sparse = raw(
        6,
        1_000_000_000,
        &[],
        "claims 1000000000 elements, and 2097152 is the most",
        "10^9 floats that are in the file",
    );
    sparse.len = Some(5_000_000_000);
    let mut sparse_strings = raw(
        8,
        500_000_000,
        &[],
        "claims 500000000 elements",
        "5 * 10^8 empty strings",
    );
    sparse_strings.len = Some(5_000_000_000);
    let mut all = vec![
        raw(
            9,
            1,
            &nested,
            "is an array of arrays",
            "arrays a thousand deep",
        ),
        raw(
            77,
            1,
            &[0; 8],
            "has the unknown type 77",
            "an array of type 77",
        ),
        raw(
            6,
            1_000_000_000,
            &[],
            "claims 1000000000 elements",
            "10^9 floats",
        ),
        raw(
            6,
            1 << 20,
            &[],
            "claims 1048576 elements, but only",
            "2^20 floats that are not in the file",
        ),
        raw(
            8,
            u64::MAX,
            &[],
            "claims 18446744073709551615 elements",
            "2^64 - 1 strings",
        ),
        raw(
            12,
            1 << 61,
            &[],
            "claims 2305843009213693952 elements",
            "floats whose size overflows",
        ),
        raw(
            7,
            3,
            &[0, 1, 3],
            "is a bool with the value 3",
            "an array of bools with a 3",
        ),
        raw(
            8,
            1,
            &u64::MAX.to_le_bytes(),
            "claims to be 18446744073709551615 bytes",
            "an array with an endless string",
        ),
        sparse,
        sparse_strings,
    ];
    all.push(patched(
        "a token that is not UTF-8",
        base,
        b"<0x41>",
        b"<0x\x801>",
        "tokenizer.ggml.tokens is not valid UTF-8",
    ));
    all
}

/// The sound file with `from`, at its first place, written over by `to`.
pub(super) fn patched(name: &str, base: &GgufFile, from: &[u8], to: &[u8], says: &str) -> Broken {
    assert_eq!(from.len(), to.len(), "{name}");
    let mut bytes = base.bytes();
    let place = bytes.windows(from.len()).position(|window| window == from);
    let place = place.unwrap_or_else(|| panic!("{name}: {from:?} is not in the file"));
    bytes[place..place + to.len()].copy_from_slice(to);
    Broken::of_bytes(name, bytes, says)
}
