//! Names for files that are not GGUF, so that the message says what to do about them.

/// What a file that does not begin with GGUF's magic is, by its first bytes, as a clause.
pub(super) fn describe(bytes: &[u8]) -> &'static str {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    let text = bytes.trim_ascii_start();
    let tag =
        |name: &[u8]| text.len() >= name.len() && text[..name.len()].eq_ignore_ascii_case(name);

    if starts(b"version https://git-lfs") {
        "this is a Git LFS pointer and not the model itself: fetch it with `git lfs pull`"
    } else if tag(b"<!doctype html") || tag(b"<html") {
        "this is a web page and not a model: the download went to a page about the file"
    } else if [b"lmgg", b"fmgg", b"tjgg", b"algg"]
        .iter()
        .any(|m| starts(*m))
    {
        "this is a legacy GGML file, from before GGUF: convert the model anew"
    } else if starts(b"PK\x03\x04") || starts(b"\x80\x02") {
        "this is a PyTorch checkpoint: GGUF or a directory with model.safetensors is needed"
    } else if bytes.get(8) == Some(&b'{') {
        "this looks like a safetensors file: give the directory that holds it and config.json"
    } else if text.starts_with(b"{") {
        "this is JSON and not a model: give the directory that holds config.json"
    } else if bytes.iter().take(4096).all(|&byte| byte == 0) {
        "the file begins with zeros, as unfinished downloads do"
    } else {
        "this is not a GGUF file: its first four bytes are not `GGUF`"
    }
}
