//! What can be asked of a text: that the prompt be rated, that it become a vector, that it obey a
//! grammar, that a thought come to an end.

use std::ops::ControlFlow;
use std::sync::mpsc;

use onward_engine::{
    Completion, Constraint, Engine, EngineOptions, Event, FinishReason, Refusal, Request, Service,
    ServiceOptions, Thinking, Update,
};
use onward_kernels::ops::sample::SamplingParams;
use onward_kernels::{Cpu, Reference};
use onward_tests::{GEMMA, golden, golden_json, load, log_softmax, model_path, random_request};

use crate::{PATIENCE, alone, crowd, engine, options};

#[test]
fn the_prompt_is_rated_like_a_text() {
    let mut engine = load(
        &golden("families").join("llama"),
        Reference::new(),
        &options(),
    );
    let request = Request {
        prompt_logprobs: true,
        top_logprobs: 3,
        ..random_request(&engine, 4, 70, 2)
    };
    let mut expected = Vec::new();
    let ids = request.prompt.clone();
    engine
        .evaluate(&ids, 0..ids.len() - 1, &mut |position, logits| {
            expected.push(log_softmax(logits)[ids[position + 1] as usize]);
            ControlFlow::Continue(())
        })
        .unwrap();
    // The second time the cache has all of it.
    for _ in 0..2 {
        let mut rated = Vec::new();
        let listener = &mut |event| {
            match event {
                Event::PromptToken(token) => {
                    assert_eq!(token.top.len(), 3);
                    assert!(token.top[0].logprob >= token.top[2].logprob);
                    rated.push((token.id, f64::from(token.logprob)));
                }
                Event::Token(_) => assert_eq!(rated.len(), 69),
                Event::Prefill { .. } => {}
            }
            ControlFlow::Continue(())
        };
        engine.generate(&request, listener).unwrap();
        assert!(rated.iter().map(|r| r.0).eq(ids[1..].iter().copied()));
        for ((_, logprob), expected) in rated.iter().zip(&expected) {
            assert!((logprob - expected).abs() < 1e-5);
        }
    }
}

/// What `golden/families/llama/embedding.json` holds.
#[derive(serde::Deserialize)]
struct GoldenVector {
    ids: Vec<u32>,
    vector: Vec<f32>,
}

#[test]
fn a_vector_is_the_direction_of_the_mean_hidden_state() {
    let golden: GoldenVector = golden_json("families/llama/embedding.json");
    let path = onward_tests::golden("families").join("llama");
    let vector = load(&path, Reference::new(), &options()).embed(&golden.ids);
    for (value, expected) in vector.unwrap().iter().zip(&golden.vector) {
        assert!((value - expected).abs() < 1e-5, "{value} {expected}");
    }
    assert_eq!(golden.vector.len(), 64);
}

#[test]
fn a_vector_does_not_depend_on_chunks_or_neighbours() {
    let mut whole = engine(&EngineOptions {
        chunk: 512,
        ..options()
    });
    let ids = random_request(&whole, 5, 100, 0).prompt;
    let expected = whole.embed(&ids).unwrap();
    let length: f32 = expected.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-5 && expected.len() == whole.config().width);
    let other = whole
        .embed(&random_request(&whole, 6, 100, 0).prompt)
        .unwrap();
    assert_ne!(other, expected);

    let service = Service::start(engine(&options()), ServiceOptions::default());
    let requests = crowd(&whole);
    let tickets: Vec<_> = requests
        .iter()
        .map(|r| service.stream(r.clone()).unwrap())
        .collect();
    let (sender, vectors) = mpsc::channel();
    for _ in 0..2 {
        let sender = sender.clone();
        service
            .embed(ids.clone(), move |vector| {
                sender.send(vector.unwrap()).unwrap()
            })
            .unwrap();
    }
    for _ in 0..2 {
        assert_eq!(vectors.recv_timeout(PATIENCE).unwrap(), expected);
    }
    drop(tickets);
}

/// Whoever is preempted reads some of its text again; that is neither told nor added up twice.
#[test]
fn a_preempted_text_is_rated_and_summed_once() {
    let tight = EngineOptions {
        n_sequences: 8,
        beside_decode: 2,
        cache_tokens: Some(256),
        ..options()
    };
    let mut solo = engine(&tight);
    let texts: Vec<_> = (0..24)
        .map(|seed| random_request(&solo, 50 + seed, 60 + 3 * seed as usize, 1))
        .collect();
    let expected: Vec<_> = texts
        .iter()
        .map(|text| solo.embed(&text.prompt).unwrap())
        .collect();
    let service = Service::start(engine(&tight), ServiceOptions::default());
    let (sender, vectors) = mpsc::channel();
    let mut rated = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let writer = random_request(&solo, index as u32, 20, 150);
        service
            .submit(writer, |_| ControlFlow::Continue(()))
            .unwrap();
        let sender = sender.clone();
        let ids = text.prompt.clone();
        let done = move |vector| sender.send((index, vector)).unwrap();
        service.embed(ids, done).unwrap();
        let request = Request {
            prompt_logprobs: true,
            ..text.clone()
        };
        rated.push(service.stream(request).unwrap());
    }
    for (ticket, text) in rated.into_iter().zip(&texts) {
        let told: Vec<u32> = ticket
            .filter_map(|update| match update {
                Update::Event(Event::PromptToken(token)) => Some(token.id),
                _ => None,
            })
            .collect();
        assert_eq!(told, text.prompt[1..]);
    }
    for _ in &texts {
        let (index, vector) = vectors.recv_timeout(PATIENCE).unwrap();
        assert_eq!(vector.unwrap(), expected[index]);
    }
    assert!(service.wait_idle(PATIENCE));
    assert!(
        service.metrics().preemptions > 0,
        "the cache was to be too small"
    );
}

/// The text of a request that is served alone.
fn text(engine: &mut Engine, request: &Request) -> (String, Completion) {
    let mut text = String::new();
    let listener = &mut |event| {
        if let Event::Token(token) = event {
            text.push_str(&token.text);
        }
        ControlFlow::Continue(())
    };
    let completion = engine.generate(request, listener).unwrap();
    (text + &completion.tail, completion)
}

#[test]
fn texts_obey_their_grammars() {
    let options = EngineOptions {
        n_ctx: Some(512),
        ..EngineOptions::default()
    };
    let mut engine = load(&model_path(GEMMA), Cpu::new(2).unwrap(), &options);
    let prompt = engine
        .tokenizer()
        .encode("A person, as JSON: ", true)
        .unwrap();
    let schema = serde_json::json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    for seed in 0..3 {
        let ask = |constraint| Request {
            constraint: Some(constraint),
            max_tokens: Some(120),
            sampling: SamplingParams {
                temperature: 1.5,
                top_p: 1.0,
                top_k: 0,
                seed,
                ..SamplingParams::default()
            },
            ..Request::new(prompt.clone())
        };
        let (person, completion) = text(&mut engine, &ask(Constraint::JsonSchema(schema.clone())));
        assert_eq!(completion.reason, FinishReason::Stop, "{person}");
        let person: serde_json::Value = serde_json::from_str(&person).unwrap();
        assert!(person["name"].as_str().unwrap().chars().count() <= 12);
        assert!(person["age"].as_u64().unwrap() <= 150);
        assert_eq!(person.as_object().unwrap().len(), 2);

        let date = Constraint::Regex("[12][0-9]{3}-(0[1-9]|1[0-2])".into());
        let (date, _) = text(&mut engine, &ask(date));
        let (year, month) = date.split_once('-').unwrap();
        assert!((1000..3000).contains(&year.parse::<u32>().unwrap()) && month.len() == 2);
        assert!((1..=12).contains(&month.parse::<u32>().unwrap()));

        let grammar = r#"start: ("yes" | "no") " " ("yes" | "no")"#;
        let (answer, _) = text(&mut engine, &ask(Constraint::Lark(grammar.into())));
        assert!(
            ["yes yes", "yes no", "no yes", "no no"].contains(&answer.as_str()),
            "{answer}"
        );
    }
}

#[test]
fn a_broken_grammar_is_refused_by_its_fault() {
    let engine = load(&model_path(GEMMA), Cpu::new(2).unwrap(), &options());
    let service = Service::start(engine, ServiceOptions::default());
    for constraint in [
        Constraint::Regex("(unclosed".into()),
        Constraint::Lark("start: nothing_of_that_name".into()),
        Constraint::JsonSchema(serde_json::json!({"type": "no such type"})),
        Constraint::Regex(format!("({}){{1000}}", "a?".repeat(2000))),
    ] {
        let request = Request {
            constraint: Some(constraint),
            ..Request::new(vec![2, 3])
        };
        match service.stream(request) {
            Err(Refusal::Invalid(error)) => {
                let message = error.to_string();
                assert!(message.starts_with("the grammar is refused: "), "{message}");
                assert!(!message.contains('\n'));
            }
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn a_thought_ends_when_its_budget_is_spent() {
    let mut engine = engine(&options());
    let mut request = random_request(&engine, 3, 10, 12);
    let free: Vec<u32> = alone(&mut engine, &request).iter().map(|d| d.0).collect();
    let end = vec![(free[5] + 1) % 50, (free[6] + 3) % 50];
    request.thinking = Some(Thinking {
        end: end.clone(),
        budget: 4,
    });
    let bound: Vec<u32> = alone(&mut engine, &request).iter().map(|d| d.0).collect();
    assert_eq!(bound[..4], free[..4]);
    assert_eq!(bound[4..6], end);
    assert_eq!(bound.len(), 12);
}
