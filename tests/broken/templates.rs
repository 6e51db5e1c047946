//! Models whose chat templates are broken or mean harm.

use super::{Broken, changed};
use crate::gguf_file::Meta;
use crate::tiny_model;

/// Every template, in a model that is sound otherwise.
pub fn all() -> Vec<Broken> {
    let base = tiny_model::llama();
    let cases: [(&str, String); 13] = [
        (
            "a syntax error",
            "{% for m in messages %}{{ m.content }}".to_owned(),
        ),
        (
            "an unknown function",
            "{{ open('/etc/passwd') }}".to_owned(),
        ),
        ("an unknown filter", "{{ messages | system }}".to_owned()),
        (
            "a loop without end",
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
             {% set x = a * b * c %}{% endfor %}{% endfor %}{% endfor %}"
                .to_owned(),
        ),
        (
            "a range of 10^12",
            "{% for a in range(1000000000000) %}{% endfor %}".to_owned(),
        ),
        (
            "a macro that calls itself",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        ),
        (
            "a template that includes itself",
            "{% include 'chat_template' %}".to_owned(),
        ),
        (
            "a string of 10^10 characters",
            "{{ 'aaaaaaaaaa' * 1000000000 }}".to_owned(),
        ),
        (
            "a string doubled forty times",
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(40) %}\
             {% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"
                .to_owned(),
        ),
        (
            "output without end",
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ 'x' * 1000 }}\
             {% endfor %}{% endfor %}"
                .to_owned(),
        ),
        (
            "a refusal",
            "{{ raise_exception('no such role') }}".to_owned(),
        ),
        (
            "an endless refusal that clears the screen",
            "{{ raise_exception('\x1b[2J\nno' * 10000) }}".to_owned(),
        ),
        (
            "parentheses a hundred thousand deep",
            format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        ),
    ];
    cases
        .into_iter()
        .map(|(name, template)| {
            let file = changed(&base, |f| {
                f.set("tokenizer.chat_template", Meta::Str(template))
            });
            Broken::new(name, &file, "template")
        })
        .collect()
}
