//! The parameter structs of `abi.h`, as the build generated them. An operation's `cuda.rs`
//! declares its own to be fit for launches.

#![allow(missing_docs, non_camel_case_types, unreachable_pub, dead_code)]

include!(concat!(env!("OUT_DIR"), "/abi.rs"));
