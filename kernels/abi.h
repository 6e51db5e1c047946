/* What the host hands to a CUDA kernel: one plain struct per kernel, passed by value as the
 * kernel's only parameter. The build turns these headers into Rust types with bindgen, checks
 * their layout with the host's C and C++ compilers, and the kernels include them as they are: an
 * argument that drifts on one side does not compile.
 *
 * Written in the C that C, C++ and CUDA share, without includes but these. Pointers are device
 * addresses.
 */
#ifndef ONWARD_ABI_H
#define ONWARD_ABI_H

#include "device/bandwidth/params.h"
#include "device/batch.h"
#include "device/conformance/params.h"
#include "device/decode_loop/params.h"
#include "device/kv.h"
#include "ops/attention/params.h"
#include "ops/embed/params.h"
#include "ops/gated/params.h"
#include "ops/matmul/params.h"
#include "ops/moe_combine/params.h"
#include "ops/moe_matmul/params.h"
#include "ops/moe_route/params.h"
#include "ops/rms_norm/params.h"
#include "ops/rope_append/params.h"
#include "ops/sample/params.h"

#endif
