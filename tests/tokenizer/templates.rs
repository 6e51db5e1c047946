//! Chat templates: Python's dialect, and what a hostile one can do.

use std::time::{Duration, Instant};

use onward_tokenizer::{ChatTemplate, Conversation, Message};
use serde_json::json;

fn render(source: &str, contents: &[&str]) -> Result<String, String> {
    let roles = ["user", "assistant"].iter().cycle();
    let messages: Vec<Message> = contents
        .iter()
        .zip(roles)
        .map(|(content, role)| Message {
            role: (*role).into(),
            content: (*content).into(),
        })
        .collect();
    ChatTemplate::new(source, "<s>", "</s>")
        .and_then(|template| template.render(&messages, true))
        .map_err(|error| error.to_string())
}

/// Expected values are Jinja2's, in the environment that transformers sets up.
#[test]
fn python_dialect() {
    let cases = [
        (
            "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}",
            "<s></s>True",
        ),
        (
            "{% for m in messages %}\n{% if loop.index0 == 1 %}{% break %}{% endif %}\n  {{ m.content }}\n{% endfor %}\n",
            "  <a> 'b'\n",
        ),
        (
            "{{ messages[0].content.split(' ')[-1].strip(\"'\").upper() }}",
            "B",
        ),
        (
            "{{ messages[0]['content'].startswith('<') and messages[1:]|length == 1 }}",
            "True",
        ),
        (
            "{{ messages[0]|tojson }}",
            r#"{"role": "user", "content": "<a> 'b'"}"#,
        ),
        (
            "{{ [1, {'ü': none}]|tojson(indent=2) }}",
            "[\n  1,\n  {\n    \"ü\": null\n  }\n]",
        ),
        ("{{ [[], {}]|tojson(indent=2) }}", "[\n  [],\n  {}\n]"),
        (
            "{{ [true, false, 1.5]|tojson }}{{ true }}",
            "[true, false, 1.5]True",
        ),
        (
            "{{ tools }}{% if tools %}t{% endif %}{% for t in tools %}x{% endfor %}{{ tools is defined }}",
            "False",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        (
            "{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) ~ f('a') }}",
            "[1][a]",
        ),
        (
            "{{ '%s is %d' | format('x', 3) }}{{ '{} {:.2f}'.format('y', 1.5) }}",
            "x is 3y 1.50",
        ),
        (
            "{{ messages[0].items()|list|length }}{{ messages[0].get('none', 'd') }}",
            "2d",
        ),
        (
            "{%- for m in messages -%}  {{- m.content | trim -}}  {%- endfor -%}",
            "<a> 'b'c",
        ),
    ];
    for (source, expected) in cases {
        assert_eq!(
            render(source, &["<a> 'b'", "c"]).as_deref(),
            Ok(expected),
            "{source}"
        );
    }
}

#[test]
fn a_conversation_has_tools_and_variables() {
    let template = ChatTemplate::new(
        "{{ tools is defined }}{{ messages|length }}{{ enable_thinking }}{{ bos_token }}\
         {{ messages[0].tool_calls[0].function.arguments|tojson }}{{ tools|tojson }}",
        "<s>",
        "</s>",
    )
    .expect("it parses");
    let call = json!({"function": {"name": "f", "arguments": {"z": 1, "a": [null, true]}}});
    let messages = [json!({"role": "assistant", "content": "", "tool_calls": [call]})];
    let tools = [json!({"type": "function", "b": -1.5})];
    let variables = json!({"enable_thinking": false, "messages": "mine", "bos_token": "mine"});
    let conversation = Conversation {
        messages: &messages,
        tools: &tools,
        variables: variables.as_object().expect("an object"),
        add_generation_prompt: false,
    };
    // Variables do not replace what the template is told otherwise; the order of keys is kept.
    let expected = "True1False<s>{\"z\": 1, \"a\": [null, true]}\
                    [{\"type\": \"function\", \"b\": -1.5}]";
    assert_eq!(
        template.render_conversation(&conversation).ok().as_deref(),
        Some(expected)
    );
    let without = Conversation {
        tools: &[],
        ..conversation
    };
    let rendered = template.render_conversation(&without).expect("it renders");
    assert!(rendered.starts_with("False1"), "{rendered}");
    assert!(template.mentions("tool_calls") && !template.mentions("<think>"));
}

#[test]
fn a_template_refuses_in_one_line() {
    let error = render("{{ raise_exception('no\n\u{1b}[31mway') }}", &["a"]);
    assert_eq!(
        error,
        Err("the chat template failed: no [31mway (line 1 of the template)".into())
    );
    let error = render("\n{% if %}", &["a"]);
    let error = error.expect_err("the source is malformed");
    assert!(
        error.starts_with("the chat template is invalid: ") && error.contains("line 2"),
        "{error}"
    );
}

/// Sources that want unbounded time, memory, stack or output, and what is said about them.
fn hostile_sources() -> Vec<String> {
    let nested = |step: &str, end: &str| {
        format!(
            "{{% set ns = namespace(x=1) %}}{{% for i in range(99999) %}}{{% set ns.x = {step} %}}{{% endfor %}}{end}"
        )
    };
    let mut sources = vec![
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}".to_owned(),
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}".into(),
        "{{ 'a' * 1000000000000 }}".into(),
        "{{ 'a'.replace('', 'a' * 1000000).replace('', 'a' * 1000000) }}".into(),
        "{{ ('a ' * 40000000).split(' ') | length }}".into(),
        "{{ '{:1000000000}'.format(1) }}".into(),
        "{{ ('{0}' * 100000).format('x' * 100000) }}".into(),
        "{{ '%1000000000d' | format(1) }}".into(),
        "{{ range(99999) | join('x' * 100000) }}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        nested("[ns.x]", "{{ ns.x }}"),
        nested("{'a': ns.x}", "{{ ns.x | tojson }}"),
        nested("ns.x ~ 'aaaaaaaa'", "{{ ns.x }}"),
        "x".repeat(1 << 20),
    ];
    for (open, close) in [("(", ")"), ("[", "]"), ("{% if 1 %}", "{% endif %}")] {
        let n = 60_000 / (open.len() + close.len());
        let (left, right) = if open.len() == 1 {
            ("{{ ", " }}")
        } else {
            ("", "")
        };
        sources.push(format!(
            "{left}{}1{}{right}",
            open.repeat(n),
            close.repeat(n)
        ));
    }
    sources
}

#[test]
fn hostile_templates_end_in_one_sentence() {
    for source in hostile_sources() {
        let start = Instant::now();
        let error = render(&source, &["hi"]).expect_err(&source[..source.len().min(80)]);
        assert!(error.len() < 500 && !error.contains('\n'), "{error}");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{source}: {:?}",
            start.elapsed()
        );
    }
}

/// A long conversation pays for more work: still no end of the stack, of time or of memory.
#[test]
fn hostile_templates_end_with_long_messages_too() {
    let content = "y".repeat(4 << 20);
    for source in hostile_sources() {
        let start = Instant::now();
        let one_line = render(&source, &[&content]).map_or_else(|e| !e.contains('\n'), |_| true);
        assert!(
            one_line && start.elapsed() < Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
    }
}

/// Chains that recurse once per link in the parser, the compiler and the drop of the tree.
#[test]
fn deep_sources_do_not_exhaust_the_stack() {
    for link in [
        "|e",
        ".a",
        "()",
        "[0]",
        " and a",
        " is int",
        " if a else 0",
        "<a",
        " or a",
    ] {
        let source = format!("{{{{ a{} }}}}", link.repeat(65_000 / link.len()));
        let rendered = render(&source, &["a"]);
        assert!(
            rendered.map_or_else(|e| !e.contains("panic"), |_| true),
            "{link}"
        );
    }
    let elif = "{% elif 0 %}".repeat(5_000);
    assert_eq!(
        render(&format!("{{% if 0 %}}{elif}{{% endif %}}"), &["a"]).as_deref(),
        Ok("")
    );
}

/// The engine compiles a chain of operators in quadratic time, so their number is limited.
#[test]
fn chains_of_operators_are_limited() {
    for link in ["~a", "+a", "-a", "*a", "/a", "%a", "%-a", "//a", "**a"] {
        let chain = |n: usize| render(&format!("{{{{ 1{} }}}}", link.repeat(n)), &["a"]);
        let refused = chain(10_000).is_err_and(|error| error.contains("operators, more than 4000"));
        let start = Instant::now();
        let compiled = chain(900).map_or_else(|e| e.contains("failed"), |_| true);
        assert!(refused && compiled, "{link}");
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{link}: {:?}",
            start.elapsed()
        );
    }
    for prefix in ["-", "not "] {
        let chain = |n: usize| render(&format!("{{{{ {}1 }}}}", prefix.repeat(n)), &["a"]);
        assert!(chain(10_000).is_err() && chain(900).is_ok(), "{prefix}");
    }
    let tags = "{%- if 1 -%}{{- 1 -}}{%- endif -%}\n".repeat(1_000);
    assert_eq!(render(&tags, &["a"]).map(|text| text.len()), Ok(1_000));
}

#[test]
fn long_conversations_fit_the_limits() {
    let source =
        "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '\\n' }}{% endfor %}";
    let turn = "word ".repeat(400);
    let turns = vec![turn.as_str(); 2_000];
    assert_eq!(
        render(source, &turns).map(|text| text.len() > 4_000_000),
        Ok(true)
    );
    let document = "word ".repeat(400_000);
    assert!(render(source, &[&document]).is_ok());
    let repeated = "{% for i in range(20) %}{{ messages[0].content }}{% endfor %}";
    let error = render(repeated, &[&document]).expect_err("twenty times the text is too long");
    assert_eq!(
        error,
        "the chat template failed: its output is longer than 17048608 bytes"
    );
}
