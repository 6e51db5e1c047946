//! The check of a batch against the KV cache, shared by the operations that go through both.

use crate::backend::{Batch, CacheShape, KvShape, PAGE_TOKENS, Span};
use crate::error::Result;

use super::shape_error;

/// The heads that an operation means to find in the cache.
pub(crate) struct Heads {
    pub(crate) layer: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
}

/// That the layer has these heads, that the spans cover the rows in order with the positions
/// they state, and that every position has its page.
pub(crate) fn check(
    op: &'static str,
    batch: &Batch,
    cache: &impl CacheShape,
    heads: &Heads,
) -> Result<()> {
    let shape = cache.shape();
    check_heads(op, shape, heads)?;
    if batch.positions.len() != batch.n_rows() {
        let (tokens, positions) = (batch.n_rows(), batch.positions.len());
        let detail = format!("the batch has {tokens} tokens but {positions} positions");
        return Err(shape_error(op, detail));
    }
    let mut covered = 0;
    for span in &batch.spans {
        check_span(op, batch, shape, span, covered)?;
        covered = span.rows.end;
    }
    if covered != batch.n_rows() {
        let n_rows = batch.n_rows();
        let detail = format!("the spans cover {covered} rows of {n_rows}");
        return Err(shape_error(op, detail));
    }
    Ok(())
}

fn check_heads(op: &'static str, shape: &KvShape, heads: &Heads) -> Result<()> {
    let Heads {
        layer,
        n_heads,
        n_kv_heads,
        head_dim,
    } = *heads;
    let n_layers = shape.layers.len();
    let Some(&(cached_heads, cached_dim)) = shape.layers.get(layer) else {
        let detail = format!("layer {layer} is beyond the KV cache's {n_layers} layers");
        return Err(shape_error(op, detail));
    };
    if (cached_heads, cached_dim) != (n_kv_heads, head_dim) {
        let detail = format!(
            "layer {layer} of the KV cache has {cached_heads} heads of {cached_dim} elements, \
             not {n_kv_heads} of {head_dim}"
        );
        return Err(shape_error(op, detail));
    }
    if n_kv_heads == 0 || head_dim == 0 || n_heads == 0 || !n_heads.is_multiple_of(n_kv_heads) {
        let detail = format!(
            "{n_heads} query heads do not share {n_kv_heads} key heads of {head_dim} elements"
        );
        return Err(shape_error(op, detail));
    }
    Ok(())
}

fn check_span(
    op: &'static str,
    batch: &Batch,
    shape: &KvShape,
    span: &Span,
    covered: usize,
) -> Result<()> {
    let rows = &span.rows;
    if rows.start != covered || rows.end < rows.start || rows.end > batch.n_rows() {
        let n_rows = batch.n_rows();
        let detail = format!("a span of rows {rows:?} does not follow row {covered} of {n_rows}");
        return Err(shape_error(op, detail));
    }
    let positions = &batch.positions[rows.clone()];
    let stated = positions.iter().map(|&p| p as usize);
    if !stated.eq((0..rows.len()).map(|i| span.position.saturating_add(i))) {
        let position = span.position;
        let detail = format!("the positions of rows {rows:?} do not count up from {position}");
        return Err(shape_error(op, detail));
    }
    let n_pages = (span.position + rows.len()).div_ceil(PAGE_TOKENS);
    if span.block_table.len() < n_pages {
        let has = span.block_table.len();
        let detail = format!("rows {rows:?} need {n_pages} pages but their table has {has}");
        return Err(shape_error(op, detail));
    }
    let mut pages = span.block_table[..n_pages].iter();
    if let Some(page) = pages.find(|&&page| page as usize >= shape.n_pages) {
        let n_pages = shape.n_pages;
        let detail = format!("page {page} is beyond the KV cache's {n_pages} pages");
        return Err(shape_error(op, detail));
    }
    Ok(())
}

/// That no two rows go to the same place in the cache: they may be written at the same time.
pub(crate) fn check_places(op: &'static str, batch: &Batch) -> Result<()> {
    let mut places: Vec<(u32, usize)> = batch
        .spans
        .iter()
        .flat_map(|span| {
            (span.position..span.position + span.rows.len())
                .map(|p| (span.block_table[p / PAGE_TOKENS], p % PAGE_TOKENS))
        })
        .collect();
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let (page, slot) = pair[0];
            let detail = format!("two rows are to be stored in slot {slot} of page {page}");
            Err(shape_error(op, detail))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Cache(KvShape);

    impl CacheShape for Cache {
        fn shape(&self) -> &KvShape {
            &self.0
        }
    }

    fn verdict(change: impl Fn(&mut Batch, &mut Heads)) -> String {
        let cache = Cache(KvShape {
            n_pages: 8,
            layers: vec![(2, 16)],
        });
        let mut batch = Batch::default();
        batch.push(&[1, 2, 3], 31, &[7, 0]);
        batch.push(&[4], 0, &[5]);
        let mut heads = Heads {
            layer: 0,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
        };
        change(&mut batch, &mut heads);
        let result = check("op", &batch, &cache, &heads).and_then(|()| check_places("op", &batch));
        result.map_or_else(|e| e.to_string(), |()| "fine".into())
    }

    #[test]
    fn each_fault_is_named() {
        assert_eq!(verdict(|_, _| {}), "fine");
        for (said, change) in [
            (
                "layer 1",
                (|_, h| h.layer = 1) as fn(&mut Batch, &mut Heads),
            ),
            ("heads of 16", |_, h| h.head_dim = 8),
            ("3 query heads", |_, h| h.n_heads = 3),
            ("does not follow", |b, _| b.spans[1].rows = 2..4),
            ("cover 3 rows", |b, _| _ = b.spans.pop()),
            ("5 tokens", |b, _| b.tokens.push(0)),
            ("count up", |b, _| b.positions[2] = 9),
            ("need 2 pages", |b, _| b.spans[0].block_table.truncate(1)),
            ("page 8", |b, _| b.spans[0].block_table[0] = 8),
            ("slot 0 of page 0", |b, _| b.spans[1].block_table[0] = 0),
        ] {
            let message = verdict(change);
            assert!(message.contains(said), "{message} does not say {said}");
        }
    }
}
