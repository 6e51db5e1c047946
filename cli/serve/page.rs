//! The page at `/`: a conversation in a browser. It is part of the program and asks no other host.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// What the page may do: run and show what comes from this server as files, and ask this server.
/// A text of a model that were taken for HTML or for a script would be neither.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// A file of the page.
#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    kind: &'static str,
    body: &'static str,
}

/// Lists files of cli/web by their names.
macro_rules! assets {
    ($($kind:ident $name:literal),* $(,)?) => {
        [$(Asset {
            path: concat!("/web/", $name),
            kind: $kind,
            body: include_str!(concat!("../web/", $name)),
        }),*]
    };
}

const PAGE: Asset = Asset {
    path: "/",
    kind: HTML,
    body: include_str!("../web/index.html"),
};

const ASSETS: [Asset; 21] = assets![
    CSS "page.css",
    CSS "panels.css",
    CSS "turns.css",
    SVG "icon.svg",
    SCRIPT "api.mjs",
    SCRIPT "app.mjs",
    SCRIPT "branches.mjs",
    SCRIPT "composer.mjs",
    SCRIPT "conversation.mjs",
    SCRIPT "cuts.mjs",
    SCRIPT "dom.mjs",
    SCRIPT "format.mjs",
    SCRIPT "generation.mjs",
    SCRIPT "inspector.mjs",
    SCRIPT "key.mjs",
    SCRIPT "prompt.mjs",
    SCRIPT "settings.mjs",
    SCRIPT "speech.mjs",
    SCRIPT "sse.mjs",
    SCRIPT "thread.mjs",
    SCRIPT "turn.mjs",
];

/// The routes of the page. They need no key: there is nothing secret in them, and without them
/// nobody could be asked for one.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let assets = std::iter::once(PAGE).chain(ASSETS);
    assets.fold(Router::new(), |router, asset| {
        let tag = tag(asset.body);
        router.route(
            asset.path,
            get(move |asked: HeaderMap| std::future::ready(serve(&asset, &tag, &asked))),
        )
    })
}

/// What a browser that has this very file need not be sent again.
fn tag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn serve(asset: &Asset, tag: &str, asked: &HeaderMap) -> Response {
    let known = asked.get_all(header::IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == tag);
    let fixed = [
        (header::CONTENT_TYPE, asset.kind),
        // A new version of the program has new files by old names: browsers must ask.
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, tag),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.body.into_response(),
    };
    for (name, value) in fixed {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let files = std::fs::read_dir(folder).expect("cli/web is there");
        let names = files.map(|file| file.expect("a file").file_name());
        let names: BTreeSet<String> = names
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.contains('.') && name != "index.html")
            .collect();
        let served = ASSETS.map(|asset| asset.path.trim_start_matches("/web/").to_owned());
        assert_eq!(names, BTreeSet::from(served));
    }

    #[test]
    fn nothing_on_the_page_is_elsewhere() {
        for asset in ASSETS.iter().chain([&PAGE]) {
            // The name of SVG's dialect is no address that is asked.
            let text = asset.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "{}", asset.path);
            assert!(!text.contains("innerHTML"), "{}", asset.path);
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let tag = tag(PAGE.body);
        let mut asked = HeaderMap::new();
        assert_eq!(serve(&PAGE, &tag, &asked).status(), StatusCode::OK);
        let known = format!("\"other\", W/{tag}");
        asked.insert(
            header::IF_NONE_MATCH,
            HeaderValue::from_str(&known).expect("a header"),
        );
        let response = serve(&PAGE, &tag, &asked);
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(response.headers()[header::ETAG], tag);
    }
}
