//! Ids and prompts equal to those of Hugging Face transformers.

use onward_engine::formats::Gguf;
use onward_tests::{GEMMA, QWEN, golden, golden_json};
use onward_tokenizer::{ChatTemplate, Message, Tokenizer};
use serde::Deserialize;

use crate::{GEMMA_TOKENIZER, QWEN_TOKENIZER, open};

#[derive(Deserialize)]
struct Golden {
    tokenize: Vec<Tokenized>,
    #[serde(default)]
    chat: Vec<Chat>,
}

#[derive(Deserialize)]
struct Tokenized {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    rendered: String,
}

fn assert_equal_ids(tokenizer: &Tokenizer, golden: &Golden) {
    assert_eq!(golden.tokenize.len(), 25);
    for Tokenized { text, ids } in &golden.tokenize {
        let ours = tokenizer
            .encode(text, false)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(&ours, ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids).ok().as_ref(), Some(text));
    }
}

#[test]
fn gemma_ids() {
    assert_equal_ids(&GEMMA_TOKENIZER, &golden_json("gemma-3-270m.public.json"));
}

#[test]
fn qwen_ids() {
    assert_equal_ids(
        &QWEN_TOKENIZER,
        &golden_json("qwen2.5-coder-0.5b.public.json"),
    );
}

#[derive(Deserialize)]
struct Family {
    prompt: String,
    ids: Vec<u32>,
}

#[test]
fn ids_of_hugging_face_directories() {
    for family in ["gemma3", "llama", "llama3-rope", "qwen2", "qwen3"] {
        let folder = golden("families").join(family);
        let json = std::fs::read(folder.join("tokenizer.json")).unwrap_or_else(|e| panic!("{e}"));
        let config = golden_json(&format!("families/{family}/tokenizer_config.json"));
        let expected: Family = golden_json(&format!("families/{family}/expected.json"));
        let tokenizer =
            Tokenizer::from_files(&json, Some(&config)).unwrap_or_else(|e| panic!("{e}"));
        let ids = tokenizer
            .encode(&expected.prompt, false)
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ids, expected.ids, "{family}");
        assert_eq!(
            tokenizer.decode(&ids).ok(),
            Some(expected.prompt),
            "{family}"
        );
    }
}

fn template_of(file: &Gguf) -> ChatTemplate {
    let source = file
        .required_str("tokenizer.chat_template")
        .unwrap_or_else(|e| panic!("{e}"));
    ChatTemplate::new(source, "<|endoftext|>", "<|im_end|>").unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn qwen_prompts() {
    let golden: Golden = golden_json("qwen2.5-coder-0.5b.public.json");
    assert_eq!(golden.chat.len(), 2);
    let template = template_of(&open(QWEN));
    for Chat { messages, rendered } in &golden.chat {
        assert_eq!(
            template.render(messages, true).ok().as_ref(),
            Some(rendered)
        );
    }
}

#[test]
fn special_tokens_of_real_models() {
    let (gemma, qwen) = (&*GEMMA_TOKENIZER, &*QWEN_TOKENIZER);
    assert_eq!(
        (gemma.bos(), gemma.eos(), gemma.adds_bos()),
        (Some(2), Some(1), true)
    );
    assert_eq!(
        (qwen.bos(), qwen.eos(), qwen.adds_bos()),
        (Some(151_643), Some(151_645), false)
    );
    // Gemma's `</s>` is struck-through text in HTML, not an end.
    assert_eq!(gemma.stop_ids(), [1, 106]);
    assert_eq!(qwen.stop_ids(), [151_645, 151_643]);
    assert!(gemma.is_special(106) && !gemma.is_special(107) && !qwen.is_special(0));
    assert_eq!((gemma.vocab_size(), qwen.vocab_size()), (262_144, 151_936));
    assert_eq!(gemma.id_of("<end_of_turn>"), Some(106));
    assert!(open(GEMMA).get("tokenizer.chat_template").is_none());
}

#[test]
fn bos_is_there_when_asked_and_never_twice() {
    let encode = |tokenizer: &Tokenizer, text: &str, add_bos| {
        tokenizer
            .encode(text, add_bos)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    assert_eq!(encode(&GEMMA_TOKENIZER, "Hello", true), [2, 9259]);
    assert_eq!(encode(&GEMMA_TOKENIZER, "<bos>Hello", true), [2, 9259]);
    assert_eq!(encode(&GEMMA_TOKENIZER, "<bos>Hello", false), [2, 9259]);
    assert_eq!(encode(&GEMMA_TOKENIZER, "", true), [2]);
    assert_eq!(encode(&QWEN_TOKENIZER, "Hello", true), [151_643, 9707]);
    let template = ChatTemplate::new(
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "<bos>",
        "<eos>",
    );
    let messages = [Message {
        role: "user".into(),
        content: "Hello".into(),
    }];
    let prompt = template.and_then(|template| template.render(&messages, false));
    let prompt = prompt.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(encode(&GEMMA_TOKENIZER, &prompt, true), [2, 9259]);
}
