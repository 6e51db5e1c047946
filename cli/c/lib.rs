//! The C interface: create, submit, poll, cancel, free.
//!
//! `onward.h` is made from this file by cbindgen; a test holds the two together. Rules for whoever
//! calls: every function returns an [`OnwardStatus`]; where that is not `ONWARD_STATUS_OK`,
//! [`onward_last_error`] says why, in one sentence, to the thread that called. Texts are UTF-8 that
//! ends with a zero. What an engine or a request lends out, says how long it lasts. An engine may be
//! used by many threads at once, a request by one at a time.

mod handles;
mod requests;
mod status;

pub use handles::{
    OnwardEngine, OnwardOptions, onward_create, onward_default_options, onward_free,
};
pub use requests::{
    OnwardEvent, OnwardEventKind, OnwardFinish, OnwardRequest, OnwardSampling, onward_cancel,
    onward_default_sampling, onward_poll, onward_release, onward_submit,
};
pub use status::{OnwardStatus, onward_last_error};
