//! The parameter structs of `abi.h`, as the build generated them.

#![allow(missing_docs, non_camel_case_types, unreachable_pub)]

use cudarc::driver::DeviceRepr;

include!(concat!(env!("OUT_DIR"), "/abi.rs"));

// SAFETY: plain data with C layout, checked against the kernels' compiler when it was generated.
unsafe impl DeviceRepr for RmsNormParams {}
