//! What is asked for: everything follows from a seed.

use serde_json::{Value, json};

/// The kind of requests.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Decides everything.
    pub seed: u64,
    /// Different prompts.
    pub n_prompts: usize,
    /// Words of a prompt, at least and at most.
    pub prompt_words: (usize, usize),
    /// Words that all prompts begin with.
    pub shared_words: usize,
    /// Tokens of a completion, at least and at most.
    pub tokens: (usize, usize),
    /// The share of requests that are broken off after some tokens.
    pub dropped: f64,
    /// The share of requests that are malformed.
    pub malformed: f64,
    /// The temperature of all.
    pub temperature: f64,
}

/// A request to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The prompt's number.
    pub prompt: usize,
    /// What is sent.
    pub body: Value,
    /// What becomes of it.
    pub fate: Fate,
}

/// How a client treats its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It listens to the end.
    Whole,
    /// It breaks off after so many pieces of text.
    Dropped(usize),
    /// What it sends cannot be served.
    Malformed,
}

/// Words whose tokens are as mixed as a text's.
const WORDS: [&str; 32] = [
    "the",
    "lighthouse",
    "keeper",
    "noticed",
    "that",
    "morning",
    "a",
    "storm",
    "had",
    "carried",
    "his",
    "boat",
    "42",
    "miles",
    "north;",
    "nobody",
    "knew",
    "why",
    "(or",
    "when)",
    "it",
    "would",
    "return",
    "from",
    "an",
    "island",
    "called",
    "Skerryvore,",
    "where",
    "birds",
    "sleep",
    "quietly.",
];

impl Workload {
    /// The request of this number.
    pub fn job(&self, number: u64) -> Job {
        let mut random = Random::new(self.seed, number.wrapping_add(1 << 32));
        let prompt = random.below(self.n_prompts);
        let (chance, after) = (random.fraction(), 1 + random.below(8));
        let kind = random.below(3);
        let whole = self.whole(prompt);
        if chance < self.malformed {
            return Job {
                body: malformed(whole.body, kind),
                fate: Fate::Malformed,
                prompt,
            };
        }
        let is_dropped = chance < self.malformed + self.dropped;
        Job {
            fate: if is_dropped {
                Fate::Dropped(after)
            } else {
                Fate::Whole
            },
            ..whole
        }
    }

    /// The request for this prompt's completion, to be listened to to its end.
    pub fn whole(&self, prompt: usize) -> Job {
        let mut random = Random::new(self.seed, prompt as u64);
        let mut text = String::from("Once");
        let mut shared = Random::new(self.seed, u64::MAX);
        for _ in 0..self.shared_words {
            text = text + " " + WORDS[shared.below(WORDS.len())];
        }
        for _ in 0..random.between(self.prompt_words) {
            text = text + " " + WORDS[random.below(WORDS.len())];
        }
        Job {
            prompt,
            body: json!({
                "prompt": text,
                "max_tokens": random.between(self.tokens),
                "temperature": self.temperature,
                "seed": prompt,
                "ignore_eos": true,
                "stream": true,
            }),
            fate: Fate::Whole,
        }
    }
}

fn malformed(mut body: Value, kind: usize) -> Value {
    match kind {
        0 => body["max_tokens"] = json!("many"),
        1 => body["temperature"] = json!(-3),
        _ => body["prompt"] = json!({"text": "an object"}),
    }
    body
}

/// Numbers that look random (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn between(&mut self, (least, most): (usize, usize)) -> usize {
        least + self.below(most.saturating_sub(least) + 1)
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_have_their_shares_and_follow_from_the_seed() {
        let workload = Workload {
            seed: 7,
            n_prompts: 40,
            prompt_words: (5, 60),
            shared_words: 4,
            tokens: (8, 32),
            dropped: 0.1,
            malformed: 0.05,
            temperature: 0.8,
        };
        let jobs: Vec<Job> = (0..20_000).map(|number| workload.job(number)).collect();
        let share = |is: fn(&Fate) -> bool| {
            jobs.iter().filter(|job| is(&job.fate)).count() as f64 / 20_000.0
        };
        assert!((share(|fate| matches!(fate, Fate::Dropped(_))) - 0.1).abs() < 0.01);
        assert!((share(|fate| *fate == Fate::Malformed) - 0.05).abs() < 0.01);
        assert_eq!(jobs[17], workload.job(17));
        for job in jobs.iter().filter(|job| job.fate == Fate::Whole) {
            assert_eq!(*job, workload.whole(job.prompt));
            assert!((8..=32).contains(&job.body["max_tokens"].as_u64().unwrap()));
        }
        let prompts: std::collections::HashSet<_> = jobs.iter().map(|job| job.prompt).collect();
        assert_eq!(prompts.len(), 40);
    }
}
