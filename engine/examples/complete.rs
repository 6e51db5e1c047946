//! A completion in a program of one's own: `complete MODEL PROMPT`.

use onward_engine::formats::ModelFile;
use onward_engine::{Engine, EngineOptions, Event, Request, Service, ServiceOptions, Update};
use onward_kernels::Cpu;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(model), Some(prompt)) = (args.next(), args.next()) else {
        return Err("a model and a prompt are wanted".into());
    };
    let file = ModelFile::open(model.as_ref())?;
    let engine = Engine::load(&file, Cpu::new(2)?, &EngineOptions::default(), &mut |_| ())?;
    let service = Service::start(engine, ServiceOptions::default());

    let prompt = service.model().tokenizer.encode(&prompt, true)?;
    let request = Request {
        max_tokens: Some(24),
        ..Request::new(prompt)
    };
    for update in service.stream(request)? {
        match update {
            Update::Event(Event::Token(token)) => print!("{}", token.text),
            Update::Event(_) => {}
            Update::Finished(completion) => println!("{}", completion.tail),
            Update::Failed(error) => return Err(error.into()),
        }
    }
    Ok(())
}
