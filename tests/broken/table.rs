//! Files whose tensors are described wrongly: alignment, names, shapes, types, offsets.

use super::layout::patched;
use super::{Broken, changed};
use crate::gguf_file::{GgufFile, Meta, TensorSpec};

/// Every file.
pub(super) fn all(base: &GgufFile) -> Vec<Broken> {
    let mut all = alignments(base);
    all.extend(tensor_descriptions(base));
    all.extend(offsets(base));
    all
}

fn alignments(base: &GgufFile) -> Vec<Broken> {
    let cases = [
        ("alignment 0", Meta::U32(0), "general.alignment is 0"),
        ("alignment 1", Meta::U32(1), "general.alignment is 1"),
        ("alignment 48", Meta::U32(48), "general.alignment is 48"),
        (
            "alignment 2^31",
            Meta::U32(1 << 31),
            "must be a power of two from 8 to 65536",
        ),
        (
            "alignment 2^63",
            Meta::U64(1 << 63),
            "must be a power of two from 8 to 65536",
        ),
        ("alignment -32", Meta::I32(-32), "general.alignment is -32"),
        (
            "alignment in words",
            Meta::Str("32".to_owned()),
            "general.alignment is \"32\"",
        ),
        (
            "alignment unlike the data's",
            Meta::U32(4096),
            "is not a multiple of the alignment 4096",
        ),
    ];
    cases
        .into_iter()
        .map(|(name, value, says)| {
            let file = changed(base, |f| f.set("general.alignment", value));
            Broken::new(name, &file, says)
        })
        .collect()
}

fn tensor_descriptions(base: &GgufFile) -> Vec<Broken> {
    const NAME: &str = "blk.1.ffn_up.weight";
    let dims = |name: &str, dims: &[u64], says: &str| {
        let file = changed(base, |f| f.tensor(NAME).dims = dims.to_vec());
        Broken::new(name, &file, says)
    };
    let ggml_type = |ggml_type: u32, says: &str| {
        let file = changed(base, |f| f.tensor(NAME).ggml_type = ggml_type);
        Broken::new(format!("tensor type {ggml_type}"), &file, says)
    };
    let named = |name: &str, tensor: &str, says: &str| {
        let file = changed(base, |f| f.tensor(NAME).name = tensor.to_owned());
        Broken::new(name, &file, says)
    };
    vec![
        dims("no dimensions", &[], "has 0 dimensions"),
        dims("five dimensions", &[64, 1, 1, 1, 256], "has 5 dimensions"),
        dims("a dimension of zero", &[64, 0], "has a dimension of zero"),
        dims(
            "2^42 + 32 columns",
            &[(1 << 42) + 32],
            "is the download complete",
        ),
        dims(
            "2^42 + 1 columns",
            &[(1 << 42) + 1, 1],
            "rows of 4398046511105 weights",
        ),
        dims(
            "2^42 + 1 rows",
            &[64, (1 << 42) + 1],
            "is the download complete",
        ),
        dims(
            "dimensions whose product is 2^64",
            &[1 << 32, 1 << 32],
            "is larger than any memory",
        ),
        dims(
            "dimensions whose product is 64",
            &[64, 1 << 63, 2, 1],
            "is larger than any memory",
        ),
        dims(
            "2^64 - 32 columns",
            &[u64::MAX - 31],
            "is larger than any memory",
        ),
        dims(
            "half a block",
            &[48, 256],
            "not a whole number of Q5_0 blocks of 32",
        ),
        dims(
            "a row too many",
            &[64, 257],
            "begins inside tensor blk.1.ffn_up.weight",
        ),
        ggml_type(17, "uses IQ2_XS (type 17), which is not supported"),
        ggml_type(4, "uses type 4, which GGUF has given up"),
        ggml_type(999, "uses the unknown type 999"),
        ggml_type(u32::MAX, "uses the unknown type 4294967295"),
        named("a tensor without a name", "", "has no name"),
        named(
            "a tensor's name of 300 bytes",
            &"n".repeat(300),
            "claims to be 300 bytes long",
        ),
        named(
            "a tensor twice",
            "blk.1.ffn_gate.weight",
            "tensor blk.1.ffn_gate.weight is listed twice",
        ),
        patched(
            "a tensor's name that is not UTF-8",
            base,
            b"blk.1.ffn_up",
            b"blk.1.f\xfe\xfe_up",
            "not valid UTF-8",
        ),
        Broken::new(
            "a tensor's name with line breaks",
            &changed(base, |f| {
                let tensor = f.tensor(NAME);
                tensor.name = "two\nlines\x1b[2J".to_owned();
                tensor.ggml_type = 16;
            }),
            r"tensor two\nlines\u{1b}[2J uses IQ2_XXS",
        ),
    ]
}

fn offsets(base: &GgufFile) -> Vec<Broken> {
    let tensor = |name: &str, offset: u64, says: &str| {
        let file = changed(base, |f| {
            f.tensor("blk.0.attn_q.weight").offset = Some(offset)
        });
        Broken::new(name, &file, says)
    };
    vec![
        tensor(
            "an offset beyond the file",
            1 << 30,
            "needs 2304 bytes at offset 1073741824",
        ),
        tensor(
            "the greatest aligned offset",
            u64::MAX - 31,
            "at offset 18446744073709551584",
        ),
        tensor(
            "an offset of 2^63",
            1 << 63,
            "at offset 9223372036854775808",
        ),
        tensor(
            "a misaligned offset",
            1,
            "offset 1, which is not a multiple of the alignment 32",
        ),
        tensor("two tensors in one place", 0, "begins inside tensor"),
        tensor(
            "a tensor that begins inside another",
            64,
            "begins inside tensor",
        ),
        Broken::new(
            "the last tensor half outside",
            &changed(base, |f| {
                let spec = f.tensors.last_mut().expect("there are tensors");
                spec.data.truncate(spec.data.len() / 2);
            }),
            "is the download complete",
        ),
        Broken::new(
            "a thousand tensors in one place",
            &changed(base, |f| {
                for index in 0..1000 {
                    f.tensors.push(TensorSpec {
                        name: format!("copy.{index}"),
                        dims: vec![64, 64],
                        ggml_type: 0,
                        data: Vec::new(),
                        offset: Some(0),
                    });
                }
            }),
            "begins inside tensor",
        ),
    ]
}
