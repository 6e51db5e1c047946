//! `next`, `perplexity`, `inspect` and `doctor`: figures that have to fit each other.

use serde_json::Value;

use super::{GEMMA, QWEN, command, keys, model, onward};

const PROMPT: &str = "The capital of France is";

fn pairs(value: &Value) -> Vec<(u64, f64)> {
    let pair = |pair: &Value| Some((pair[0].as_u64()?, pair[1].as_f64()?));
    let pairs = value.as_array().expect("an array").iter().map(pair);
    pairs
        .collect::<Option<_>>()
        .expect("pairs of id and logprob")
}

#[test]
fn next_gives_the_ids_and_the_likeliest_tokens() {
    let json = onward(&["next", PROMPT, "--top", "16", "--json"])
        .ok()
        .json();
    assert_eq!(keys(&json), ["ids", "top"]);
    assert_eq!(
        json["ids"],
        serde_json::json!([2, 818, 5279, 529, 7001, 563])
    );
    let top = pairs(&json["top"]);
    assert_eq!(top.len(), 16);
    assert_eq!(top[0].0, 506);
    assert!(top.is_sorted_by(|a, b| a.1 >= b.1));
    let mass: f64 = top.iter().map(|(_, logprob)| logprob.exp()).sum();
    assert!(mass > 0.2 && mass < 1.0, "{mass}");
}

#[test]
fn next_draws_bars_and_says_where_sampling_cuts() {
    let args = [
        "next", PROMPT, "--top", "6", "--temp", "0.5", "--top-k", "3", "--top-p", "1",
    ];
    let run = onward(&[&args[..], &["--min-p", "0"]].concat()).ok();
    let lines: Vec<_> = run.stdout.lines().collect();
    // A heading, six tokens with a rule after the third, a summary.
    assert_eq!(lines.len(), 9, "{}", run.stdout);
    assert!(
        lines[1].contains("\" the\"") && lines[1].contains('█'),
        "{}",
        lines[1]
    );
    assert!(lines[4].contains("top-k 3 cuts here"), "{}", run.stdout);
    assert!(lines[8].contains("top-k 3 leaves 3"), "{}", lines[8]);
    let drawn = |line: &str| -> Option<f64> {
        let (before, _) = line.rsplit_once(" %")?;
        before.rsplit(' ').next()?.parse().ok()
    };
    let total: f64 = lines[1..4].iter().filter_map(|line| drawn(line)).sum();
    assert!(
        (total - 100.0).abs() < 0.05,
        "what can be drawn adds up to {total} %"
    );
    assert!(
        lines[5..8].iter().all(|line| line.contains(" –")),
        "{}",
        run.stdout
    );
}

#[test]
fn perplexity_is_what_its_positions_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text.txt");
    std::fs::write(
        &path,
        "one, two, three, four, five, six, seven, eight\n".repeat(4),
    )
    .expect("a file");
    let path = path.to_str().expect("a path in UTF-8");
    let args = ["perplexity", "-f", path, "--max-tokens", "48", "--json"];
    let plain = onward(&args).ok().json();
    assert_eq!(keys(&plain), ["mean_nll", "perplexity", "tokens"]);
    assert_eq!(plain["tokens"], 48);

    let json = onward(&[&args[..], &["--top-logprobs", "4000"]].concat())
        .ok()
        .json();
    assert_eq!(json["mean_nll"], plain["mean_nll"]);
    let positions = json["positions"].as_array().expect("positions");
    assert_eq!(positions.len(), 48, "one for each id");
    assert_eq!(positions[0]["id"], 2, "BOS counts");
    let nll = positions.windows(2).map(|pair| {
        assert_eq!(keys(&pair[0]), ["id", "top"]);
        let next = pair[1]["id"].as_u64().expect("an id");
        let top = pairs(&pair[0]["top"]);
        assert_eq!(top.len(), 4000);
        let found = top.iter().find(|(id, _)| *id == next);
        -found.expect("a plain text's next token is among 4000").1
    });
    let mean = nll.sum::<f64>() / 47.0;
    let reported = json["mean_nll"].as_f64().expect("a number");
    assert!((mean - reported).abs() < 1e-5, "{mean} {reported}");
    let perplexity = json["perplexity"].as_f64().expect("a number");
    assert!((perplexity - reported.exp()).abs() < 1e-9 * perplexity);

    let text = onward(&args[..5]).ok().stdout;
    assert!(text.starts_with("tokens      48\nmean nll    "), "{text}");
    onward(&["perplexity", "-f", path, "--max-tokens", "1"]).failed_saying(&["at least 2 tokens"]);
    onward(&["perplexity", "-f", path, "-c", "20", "--max-tokens", "48"]).failed_saying(&[
        "48",
        "20",
        "--ctx-size",
    ]);
}

#[test]
fn inspect_describes_a_model_without_loading_it() {
    let gemma = model(GEMMA);
    let inspect = |args: &[&str]| {
        let args = [&["inspect", &gemma, "--json"], args].concat();
        onward(&args).ok().json()
    };
    let json = inspect(&["-c", "1024"]);
    assert_eq!(json["family"], "gemma3");
    assert_eq!(json["parameters"], 268_098_176);
    for (field, value) in [
        ("n_layers", 18),
        ("width", 640),
        ("vocab_size", 262_144),
        ("n_ctx_train", 32_768),
        ("n_heads", 4),
        ("n_kv_heads", 1),
        ("head_dim", 256),
        ("feed_forward_width", 2048),
        ("window", 512),
        ("n_window_layers", 15),
    ] {
        assert_eq!(json["shape"][field], value, "{field}");
    }
    let sum = |groups: &Value, field: &str| -> u64 {
        let groups = groups.as_object().expect("groups").values();
        groups
            .map(|group| group[field].as_u64().expect("a count"))
            .sum()
    };
    let memory = &json["memory"];
    for groups in ["kinds", "formats"] {
        assert_eq!(sum(&json[groups], "tensors"), 236);
        assert_eq!(sum(&json[groups], "parameters"), 268_098_176);
        // Tiles of 16 rows, some blocks in more words than in the file.
        let (held, stored) = (
            memory["weights"].as_u64().unwrap(),
            sum(&json[groups], "bytes"),
        );
        assert!((stored..stored * 5 / 4).contains(&held), "{held} {stored}");
    }
    let purposes = ["weights", "kv_cache", "decoder", "activations", "scratch"];
    let bytes = |memory: &Value, name: &str| memory[name].as_u64().expect("bytes");
    let all: u64 = purposes.iter().map(|name| bytes(memory, name)).sum();
    assert_eq!(bytes(memory, "total"), all);
    // Keys and values of 256 numbers of 2 bytes, in 18 layers, at 1024 positions and in a spare page.
    assert_eq!(memory["kv_cache"], 2 * 256 * 2 * 18 * (1024 + 32));
    let four = inspect(&["-c", "1024", "--batch", "4"]);
    assert_eq!(
        four["memory"]["kv_cache"],
        2 * 256 * 2 * 18 * (4 * 1024 + 32)
    );
    assert_eq!(inspect(&[])["memory"]["context"], 32_768);

    // For a GPU that need not be there.
    let gpu = &inspect(&["-c", "1024", "--device", "cuda"])["memory"];
    assert_eq!(gpu["kv_cache"], memory["kv_cache"]);
    let weights = bytes(gpu, "weights") as f64 / sum(&json["kinds"], "bytes") as f64;
    assert!((0.95..1.05).contains(&weights), "{weights}");
    let with_driver: u64 = (purposes.iter().chain(&["graphs", "driver"]))
        .map(|name| bytes(gpu, name))
        .sum();
    assert_eq!(bytes(gpu, "total"), with_driver);
    // A byte an element and four bytes a head.
    let int8 = inspect(&["-c", "1024", "--device", "cuda", "--kv-type", "int8"]);
    assert_eq!(int8["memory"]["kv_cache"], 2 * (256 + 4) * 18 * (1024 + 32));

    let text = onward(&["inspect", &model(QWEN)]).ok().stdout;
    for part in [
        "qwen2",
        "24",
        "14 query heads, 2 key/value heads of 64",
        "Q5_0",
        "KV cache",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn doctor_measures_the_machine_and_finds_the_models() {
    let json = onward(&["doctor", "--json"]).ok().json();
    assert_eq!(
        keys(&json),
        ["cache", "cpu", "cuda_built_in", "gpu", "memory", "version"]
    );
    let cores = json["cpu"]["physical_cores"].as_u64().expect("a count");
    assert!((1..=json["cpu"]["logical_cores"].as_u64().unwrap()).contains(&cores));
    let bandwidth = json["memory"]["read_bandwidth"].as_f64().expect("a speed");
    assert!((5e8..5e12).contains(&bandwidth), "{bandwidth}");
    let models = json["cache"]["models"].as_array().expect("models");
    let gemma = models
        .iter()
        .find(|m| m["path"].as_str().unwrap().ends_with(GEMMA));
    assert_eq!(gemma.expect("the default model")["bytes"], 253_113_024);
    let gpu = &json["gpu"];
    assert!(gpu["problem"].is_string() || gpu["gpus"][0]["name"].is_string());
    assert_eq!(gpu["problem"].is_string(), gpu["paths"].is_null());

    let text = onward(&["doctor"]).ok().stdout;
    for part in ["CPU\n", "Memory\n", "GPU\n", "Cache\n", "GB/s", GEMMA] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn doctor_tells_which_ways_a_gpu_goes() {
    let args = ["doctor", "--device", "emulated"];
    let json = onward(&[&args[..], &["--json"]].concat()).ok().json();
    let gpu = &json["gpu"];
    assert_eq!(gpu["problem"], Value::Null);
    assert_eq!(gpu["gpus"][0]["compute_capability"], "8.0");
    let paths = &gpu["paths"];
    let images = paths["images"].as_array().expect("images");
    let matmul = images
        .iter()
        .find(|image| image["module"] == "matmul_floats");
    assert_eq!(matmul.expect("a module")["target"], "sm_80");
    assert_eq!(
        paths["graphs"],
        serde_json::json!({"on": true, "reason": null})
    );
    assert_eq!(paths["loop"], paths["graphs"]);
    assert_eq!(paths["hopper"]["on"], false);
    assert_eq!(paths["hopper"]["reason"], "the GPU is no Hopper");
    assert_eq!(paths["kv_types"], serde_json::json!(["bf16", "int8"]));
    assert!(paths["free_bytes"].as_u64() > Some(1 << 30));
    let said = paths["decoding"].as_str().expect("a text");
    assert!(
        said.contains("repeated as CUDA graphs, in a loop on the GPU"),
        "{said}"
    );

    let text = onward(&args).ok().stdout;
    for part in [
        "emulated device",
        "sm_80: ",
        "graphs        on",
        "loop          on",
        "off: the GPU is no Hopper",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }

    // Drivers that cannot repeat what was recorded, or not by themselves.
    for (fault, on, what, said) in [
        ("instantiation:0", false, "graphs", "out of memory"),
        ("condition:0", true, "loop", "not supported"),
    ] {
        let mut broken = command(&[&args[..], &["--json"]].concat());
        let output = broken.env("ONWARD_EMULATED", fault).output();
        let json: Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("JSON");
        let paths = &json["gpu"]["paths"];
        assert_eq!(paths["graphs"]["on"], on, "{fault}");
        assert_eq!(paths["loop"]["on"], false, "{fault}");
        let reason = paths[what]["reason"].as_str().expect("a reason");
        assert!(reason.contains(said), "{reason}");
    }
    onward(&["doctor", "--device", "cpu"]).failed_saying(&["cuda or cuda:N"]);
}
