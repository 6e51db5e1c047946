//! Requests of many callers at once: each gets what it gets alone, and nothing is lost, whoever
//! joins, leaves, breaks off or comes too late. On the CPU and on the emulated device.

mod texts;

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use onward_engine::{
    Completion, Engine, EngineOptions, Error, Event, FinishReason, Health, Refusal, Request,
    Service, ServiceOptions, Thinking, Ticket, Update,
};
use onward_kernels::Cpu;
use onward_tests::device::TestDevice;
use onward_tests::{golden, load, random_request};

const PATIENCE: Duration = Duration::from_secs(120);

/// Three sequences at once, and a cache that does not hold what they may become.
fn options() -> EngineOptions {
    EngineOptions {
        n_ctx: Some(256),
        n_sequences: 3,
        chunk: 24,
        beside_decode: 16,
        cache_tokens: Some(384),
    }
}

/// One of the tiny checkpoints of `tests/golden/families`, on the CPU.
fn engine(options: &EngineOptions) -> Engine {
    load(
        &golden("families").join("llama"),
        Cpu::new(1).unwrap(),
        options,
    )
}

/// Ids and the bits of their log-probabilities.
type Drawn = Vec<(u32, u32)>;

fn alone(engine: &mut Engine, request: &Request) -> Drawn {
    engine.forget();
    let mut drawn = Vec::new();
    let listener = &mut |event| {
        if let Event::Token(token) = event {
            drawn.push((token.id, token.logprob.to_bits()));
        }
        ControlFlow::Continue(())
    };
    engine.generate(request, listener).unwrap();
    drawn
}

/// All there is to hear of a request.
fn hear(ticket: Ticket) -> (Drawn, Result<Completion, Error>) {
    let (mut drawn, mut outcome) = (Vec::new(), None);
    for update in ticket {
        assert!(outcome.is_none(), "the last update is the last");
        match update {
            Update::Event(Event::Token(token)) => drawn.push((token.id, token.logprob.to_bits())),
            Update::Event(_) => {}
            Update::Finished(completion) => outcome = Some(Ok(completion)),
            Update::Failed(error) => outcome = Some(Err(error)),
        }
    }
    (drawn, outcome.expect("every request comes to an end"))
}

/// Requests of many lengths, some of which begin alike.
fn crowd(engine: &Engine) -> Vec<Request> {
    let sizes = [
        (5, 60),
        (90, 40),
        (1, 17),
        (64, 100),
        (33, 1),
        (7, 125),
        (120, 12),
        (40, 0),
    ];
    let mut requests: Vec<_> = (sizes.iter().zip(3..))
        .map(|(&(length, n), seed)| random_request(engine, seed, length, n))
        .collect();
    for cut in [70, 32, 50] {
        let mut fork = requests[1].clone();
        fork.prompt.truncate(cut);
        fork.prompt.push(9);
        requests.push(fork);
    }
    requests
}

/// Serves the crowd several times over, with callers that break off, and compares.
fn each_gets_what_it_gets_alone(mut solo: Engine, shared: Engine) {
    let requests = crowd(&solo);
    let expected: Vec<_> = requests.iter().map(|r| alone(&mut solo, r)).collect();
    let service = Service::start(shared, ServiceOptions::default());
    let mut tickets = Vec::new();
    for round in 0..3 {
        for (index, request) in requests.iter().enumerate() {
            if (round + index) % 4 == 0 {
                let mut heard = 0;
                let sink = move |_| {
                    heard += 1;
                    match heard < 5 {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                };
                service.submit(request.clone(), sink).unwrap();
            }
            tickets.push((index, service.stream(request.clone()).unwrap()));
        }
    }
    for (index, ticket) in tickets {
        let (drawn, outcome) = hear(ticket);
        let completion = outcome.unwrap();
        assert_eq!(completion.reason, FinishReason::Length);
        assert!(drawn == expected[index], "request {index}");
        assert_eq!(completion.new_tokens, drawn.len());
    }
    assert!(service.wait_idle(PATIENCE));
    let metrics = service.metrics();
    assert_eq!(
        (metrics.running, metrics.waiting, metrics.pages_used),
        (0, 0, 0)
    );
    assert!(metrics.preemptions > 0, "the cache was to be too small");
    assert!(metrics.cached_tokens > 0, "requests come again");
    assert_eq!(
        metrics.end_to_end.count(),
        metrics.finished + metrics.cancelled
    );
    assert!(metrics.cancelled > 0);
}

#[test]
fn a_crowd_on_the_cpu_gets_what_each_gets_alone() {
    each_gets_what_it_gets_alone(engine(&options()), engine(&options()));
}

#[test]
fn a_crowd_on_the_emulated_device_gets_what_each_gets_alone() {
    let device = TestDevice::install();
    let path = golden("families").join("llama");
    let load = || load(&path, device.open(), &options());
    each_gets_what_it_gets_alone(load(), load());
}

/// A service that serves one at a time, and a request that keeps it busy until it is broken off.
fn busy(options: ServiceOptions) -> (Service, Request, Ticket) {
    let engine = engine(&EngineOptions {
        n_ctx: Some(200_000),
        cache_tokens: Some(200_000),
        n_sequences: 1,
        ..options_of_one()
    });
    let short = random_request(&engine, 1, 4, 3);
    let long = Request {
        max_tokens: None,
        ..random_request(&engine, 2, 4, 0)
    };
    let service = Service::start(engine, options);
    let mut ticket = service.stream(long).unwrap();
    // It is being served.
    assert!(matches!(
        ticket.next(),
        Some(Update::Event(Event::Prefill { .. }))
    ));
    (service, short, ticket)
}

fn options_of_one() -> EngineOptions {
    EngineOptions {
        n_sequences: 1,
        ..options()
    }
}

#[test]
fn a_full_queue_refuses_and_a_drained_service_too() {
    let (service, short, long) = busy(ServiceOptions { max_queue: 2 });
    let waiting = [(); 2].map(|()| service.stream(short.clone()).unwrap());
    match service.stream(short.clone()) {
        Err(Refusal::QueueFull {
            waiting: 2,
            retry_after,
        }) => assert!(retry_after.as_secs() >= 1),
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(service.health(), Health::Ready);
    service.drain();
    assert_eq!(service.health(), Health::Draining);
    assert!(matches!(service.stream(short), Err(Refusal::Draining)));
    assert!(!service.wait_idle(Duration::from_millis(20)));
    drop(long);
    for ticket in waiting {
        let (drawn, outcome) = hear(ticket);
        assert_eq!(
            (drawn.len(), outcome.unwrap().reason),
            (3, FinishReason::Length)
        );
    }
    assert!(service.wait_idle(PATIENCE));
}

#[test]
fn a_cancelled_request_ends_within_a_step_wherever_it_is() {
    let (service, short, long) = busy(ServiceOptions::default());
    let waiting = service.stream(short.clone()).unwrap();
    service.cancel(waiting.id());
    let (drawn, outcome) = hear(waiting);
    assert_eq!(
        (drawn.len(), outcome.unwrap().reason),
        (0, FinishReason::Interrupted)
    );
    service.cancel(long.id());
    assert_eq!(hear(long).1.unwrap().reason, FinishReason::Interrupted);
    // A request that has ended can be cancelled, to no effect.
    let ended = service.stream(short).unwrap();
    let id = ended.id();
    assert_eq!(hear(ended).1.unwrap().reason, FinishReason::Length);
    service.cancel(id);
    assert!(service.wait_idle(PATIENCE));
    assert_eq!(service.metrics().cancelled, 2);
}

#[test]
fn time_limits_hold_in_the_queue_and_in_all() {
    let (service, short, long) = busy(ServiceOptions::default());
    let soon = Some(Duration::from_millis(30));
    let in_queue = Request {
        queue_timeout: soon,
        ..short.clone()
    };
    let (drawn, outcome) = hear(service.stream(in_queue.clone()).unwrap());
    assert_eq!(
        (drawn.len(), outcome.unwrap().reason),
        (0, FinishReason::TimedOut)
    );
    drop(long);
    // Who is served in time is not bound by the limit of the queue.
    assert_eq!(hear(service.stream(in_queue).unwrap()).0.len(), 3);
    let endless = Request {
        max_tokens: None,
        timeout: soon,
        ..short
    };
    let begun = Instant::now();
    let (drawn, outcome) = hear(service.stream(endless).unwrap());
    assert_eq!(outcome.unwrap().reason, FinishReason::TimedOut);
    assert!(!drawn.is_empty() && begun.elapsed() >= Duration::from_millis(30));
    assert!(service.wait_idle(PATIENCE));
    assert_eq!(service.metrics().timed_out, 2);
}

#[test]
fn a_listener_that_panics_harms_nobody() {
    let engine = engine(&options());
    let request = random_request(&engine, 1, 4, 30);
    let service = Service::start(engine, ServiceOptions::default());
    service
        .submit(request.clone(), |_| panic!("a caller's fault"))
        .unwrap();
    let (drawn, outcome) = hear(service.stream(request).unwrap());
    assert_eq!(
        (drawn.len(), outcome.unwrap().reason),
        (30, FinishReason::Length)
    );
    assert_eq!(service.health(), Health::Ready);
}

#[test]
fn a_request_that_cannot_be_served_is_refused_by_its_fault() {
    let service = Service::start(engine(&options()), ServiceOptions::default());
    let vocab = service.model().config.vocab_size as u32;
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = Request::new(vec![1, 2]);
        change(&mut request);
        match service.stream(request) {
            Err(Refusal::Invalid(error)) => error.to_string(),
            other => panic!("{:?}", other.err()),
        }
    };
    for (message, expected) in [
        (refused(&|r| r.prompt.clear()), "the prompt is empty"),
        (
            refused(&|r| r.prompt = vec![vocab]),
            "beyond the vocabulary",
        ),
        (refused(&|r| r.prompt = vec![1; 257]), "needs 257 positions"),
        (
            refused(&|r| r.stop = vec![String::new()]),
            "a stop text is empty",
        ),
        (refused(&|r| r.sampling.top_p = 1.5), "top"),
        (
            refused(&|r| {
                r.thinking = Some(Thinking {
                    end: vec![],
                    budget: 1,
                })
            }),
            "tokens that end it",
        ),
        (
            refused(&|r| {
                r.thinking = Some(Thinking {
                    end: vec![vocab],
                    budget: 1,
                })
            }),
            "beyond the",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}

/// The engine is dropped when nobody can ask any more, after what was asked for.
#[test]
fn what_was_asked_for_is_served_when_the_service_is_dropped() {
    let engine = engine(&options());
    let request = random_request(&engine, 1, 30, 50);
    let (sender, updates) = mpsc::channel();
    let service = Service::start(engine, ServiceOptions::default());
    let sink = move |update| {
        sender.send(update).unwrap();
        ControlFlow::Continue(())
    };
    service.submit(request, sink).unwrap();
    drop(service);
    assert!(
        matches!(updates.iter().last(), Some(Update::Finished(completion)) if completion.new_tokens == 50)
    );
}
