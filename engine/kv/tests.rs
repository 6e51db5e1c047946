//! Pages come and go, and what is known of them stays while it can.

use onward_kernels::PAGE_TOKENS;

use super::{Cache, Holding};

/// A text of full pages that has nothing in common with another one.
fn text(name: u32, n_pages: usize) -> Vec<u32> {
    (0..(n_pages * PAGE_TOKENS) as u32)
        .map(|i| name * 1000 + i)
        .collect()
}

/// Runs a text and lets go of it; how many of its tokens were there.
fn visit(cache: &mut Cache, text: &[u32]) -> usize {
    let found = cache.find(text, text.len());
    let mut holding = cache.hold_all(&found);
    assert!(cache.grow(&mut holding, text.len()));
    cache.release(holding, text);
    found.pages.len() * PAGE_TOKENS
}

#[test]
fn what_was_used_last_is_kept_longest() {
    let mut cache = Cache::new(6);
    let [a, b, c, d] = [1, 2, 3, 4].map(|name| text(name, 2));
    for text in [&a, &b, &c] {
        assert_eq!(visit(&mut cache, text), 0);
    }
    assert_eq!(visit(&mut cache, &a), a.len());
    assert_eq!(visit(&mut cache, &d[..PAGE_TOKENS]), 0);
    assert_eq!(
        visit(&mut cache, &b),
        PAGE_TOKENS,
        "the end goes before the beginning"
    );
    let kept = [&a, &b, &c, &d].map(|text| cache.find(text, text.len()).n_tokens());
    assert_eq!(kept, [a.len(), b.len(), PAGE_TOKENS, PAGE_TOKENS]);
    cache.audit([].into_iter());
}

#[test]
fn texts_meet_in_the_middle_of_a_page() {
    let mut cache = Cache::new(8);
    let a = text(1, 2);
    visit(&mut cache, &a[..PAGE_TOKENS + 20]);
    let mut fork = a[..PAGE_TOKENS + 9].to_vec();
    fork.extend([7; 30]);
    let found = cache.find(&fork, fork.len());
    let tail = found.tail.unwrap();
    assert_eq!((found.pages.len(), tail.n, tail.is_takeable), (1, 9, false));
    let found = cache.find(&a, a.len());
    let tail = found.tail.unwrap();
    assert_eq!((tail.n, tail.is_takeable), (20, true));

    // Another page that goes on from there makes the shorter one dispensable.
    let mut longer = Holding::default();
    assert!(cache.grow(&mut longer, a.len()));
    cache.release(longer, &a);
    assert_eq!((cache.n_cached(), cache.n_free()), (2, 6));
    assert_eq!(cache.find(&a, a.len()).pages.len(), 2);
    cache.audit([].into_iter());
}

#[test]
fn who_gets_too_few_pages_gets_none() {
    let mut cache = Cache::new(4);
    visit(&mut cache, &text(1, 3));
    let mut holding = Holding::default();
    assert!(cache.grow(&mut holding, 2 * PAGE_TOKENS));
    assert!(!cache.grow(&mut holding, 5 * PAGE_TOKENS), "there are four");
    assert_eq!((holding.pages().len(), cache.available()), (2, 2));
    cache.audit(holding.pages().iter());
}
