//! The tensor table of a file: every tensor's name, shape, format and place in the file.

use onward_kernels::Format;

use super::cursor::Cursor;
use super::{MAX_NAME_BYTES, MAX_TENSORS};
use crate::formats::FormatError;
use crate::formats::error::printable;
use crate::formats::table::{Tensor, TensorTable};

/// Dimensions a tensor can have in GGUF.
const MAX_DIMS: u32 = 4;

/// An entry of the table, before the place of the data section is known.
struct Described {
    name: String,
    format: Format,
    shape: Vec<usize>,
    n_bytes: usize,
    offset: u64,
}

/// Reads `count` entries and places their tensors in the file.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
) -> Result<TensorTable, FormatError> {
    // An entry is at least a name's length, a number of dimensions, one of these, type, offset.
    let count = cursor.count(
        count,
        MAX_TENSORS,
        8 + 4 + 8 + 4 + 8,
        "the header",
        "tensors",
    )?;
    let described = (0..count)
        .map(|index| describe(cursor, index, alignment))
        .collect::<Result<Vec<_>, _>>()?;
    let data_start = (cursor.position() as u64)
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| cursor.malformed("the data section begins beyond any file's end"))?;
    let tensors = described
        .into_iter()
        .map(|tensor| place(cursor, tensor, data_start))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_overlap(cursor, &tensors)?;
    TensorTable::new(tensors)
        .map_err(|name| FormatError::tensor(cursor.path(), &name, "is listed twice"))
}

fn describe(
    cursor: &mut Cursor<'_>,
    index: usize,
    alignment: u64,
) -> Result<Described, FormatError> {
    let what = format!("the description of tensor {index}");
    let name = cursor.string(MAX_NAME_BYTES, &format!("the name of tensor {index}"))?;
    if name.is_empty() {
        return Err(cursor.malformed(format!("tensor {index} has no name")));
    }
    let path = cursor.path();
    let refuse = |detail: String| FormatError::tensor(path, name, detail);
    let n_dims = cursor.u32(&what)?;
    if !(1..=MAX_DIMS).contains(&n_dims) {
        return Err(refuse(format!(
            "has {n_dims} dimensions, and 1 to {MAX_DIMS} are possible"
        )));
    }
    let mut dims = Vec::with_capacity(MAX_DIMS as usize);
    for _ in 0..n_dims {
        dims.push(cursor.u64(&what)?);
    }
    let type_id = cursor.u32(&what)?;
    let format = Format::from_ggml_type(type_id).ok_or_else(|| refuse(unsupported(type_id)))?;
    let offset = cursor.u64(&what)?;
    if !offset.is_multiple_of(alignment) {
        return Err(refuse(format!(
            "lies at offset {offset}, which is not a multiple of the alignment {alignment}"
        )));
    }
    let (shape, n_bytes) = measure(&dims, format).map_err(refuse)?;
    Ok(Described {
        name: name.to_owned(),
        format,
        shape,
        n_bytes,
        offset,
    })
}

/// The shape, outermost first, and the bytes of a tensor with `dims`, innermost first.
fn measure(dims: &[u64], format: Format) -> Result<(Vec<usize>, usize), String> {
    if dims.contains(&0) {
        return Err(format!("has a dimension of zero in {dims:?}"));
    }
    let too_large = || format!("of {dims:?} weights is larger than any memory");
    let shape: Option<Vec<usize>> = dims
        .iter()
        .rev()
        .map(|&dim| usize::try_from(dim).ok())
        .collect();
    let shape = shape.ok_or_else(too_large)?;
    let cols = shape.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(format.block_len()) {
        return Err(format!(
            "has rows of {cols} weights, which is not a whole number of {format} blocks of {}",
            format.block_len()
        ));
    }
    let n_bytes = shape[..shape.len() - 1]
        .iter()
        .try_fold(format.row_bytes(cols).ok_or_else(too_large)?, |n, &dim| {
            n.checked_mul(dim)
        })
        .filter(|&n_bytes| isize::try_from(n_bytes).is_ok())
        .ok_or_else(too_large)?;
    Ok((shape, n_bytes))
}

/// Places a tensor in the file, which must hold all of it.
fn place(cursor: &Cursor<'_>, tensor: Described, data_start: u64) -> Result<Tensor, FormatError> {
    let start = data_start
        .checked_add(tensor.offset)
        .and_then(|start| usize::try_from(start).ok());
    let range = start.and_then(|start| Some(start..start.checked_add(tensor.n_bytes)?));
    match range {
        Some(bytes) if bytes.end <= cursor.file_len() => Ok(Tensor {
            name: tensor.name,
            format: tensor.format,
            shape: tensor.shape,
            bytes,
        }),
        _ => Err(FormatError::tensor(
            cursor.path(),
            &tensor.name,
            format!(
                "needs {} bytes at offset {} of the data, which begins at byte {data_start} of a \
                 file of {} bytes: is the download complete?",
                tensor.n_bytes,
                tensor.offset,
                cursor.file_len()
            ),
        )),
    }
}

fn refuse_overlap(cursor: &Cursor<'_>, tensors: &[Tensor]) -> Result<(), FormatError> {
    let mut by_start: Vec<&Tensor> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| tensor.bytes.start);
    match by_start
        .windows(2)
        .find(|pair| pair[0].bytes.end > pair[1].bytes.start)
    {
        Some(pair) => Err(FormatError::tensor(
            cursor.path(),
            &pair[1].name,
            format!("begins inside tensor {}", printable(&pair[0].name)),
        )),
        None => Ok(()),
    }
}

/// A sentence's end about a tensor type that there is no [`Format`] for.
fn unsupported(type_id: u32) -> String {
    let name = match type_id {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        4 | 5 | 31..=33 | 36..=38 => {
            return format!("uses type {type_id}, which GGUF has given up");
        }
        _ => return format!("uses the unknown type {type_id}"),
    };
    format!("uses {name} (type {type_id}), which is not supported")
}
