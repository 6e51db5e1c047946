//! What goes wrong on a GPU, made to go wrong on the emulated device: each time one sentence, and
//! whoever asks again is served or told the same; nothing hangs.

mod command;
mod engine;
