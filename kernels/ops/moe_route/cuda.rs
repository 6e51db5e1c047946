//! `moe_route` on a GPU: a warp a row chooses, then a block an expert lists its rows.

use cudarc::driver::DeviceRepr;

use super::{GroupScore, MoeRoute, OP, Routes as HostRoutes, Scoring};
use crate::backend::{RouteShape, RoutesArray};
use crate::cuda::Cuda;
use crate::cuda::abi::{
    MOE_GROUP_THREADS, MOE_ROUTE_ROWS, MOE_ROUTE_THREADS, MOE_SIGMOID, MOE_SOFTMAX,
    MOE_SOFTMAX_OF_CHOSEN, MoeGroupParams, MoeRouteParams,
};
use crate::cuda::array::DeviceArray;
use crate::cuda::device::Device;
use crate::cuda::queue::Launch;
use crate::error::Result;
use crate::ops::narrow;

// SAFETY: plain data, its layout checked against the kernel's compiler when it was generated.
unsafe impl DeviceRepr for MoeRouteParams {}
// SAFETY: as above.
unsafe impl DeviceRepr for MoeGroupParams {}

/// The routes of a mixture on a GPU; the arrays are those of [`HostRoutes`].
#[derive(Debug)]
pub struct Routes {
    shape: RouteShape,
    experts: DeviceArray<u32>,
    pub(crate) weights: DeviceArray<f32>,
    pub(crate) offsets: DeviceArray<u32>,
    pub(crate) rows: DeviceArray<u32>,
    pub(crate) owners: DeviceArray<u32>,
    pub(crate) places: DeviceArray<u32>,
}

impl RoutesArray for Routes {
    fn shape(&self) -> &RouteShape {
        &self.shape
    }
}

impl Routes {
    pub(crate) fn new(device: &Device, shape: &RouteShape) -> Result<Self> {
        const WHAT: &str = "the routes of a mixture";
        shape.check()?;
        let n_slots = shape.n_slots()?;
        let numbers = |len| DeviceArray::zeroed(device, WHAT, len);
        Ok(Self {
            shape: *shape,
            experts: numbers(n_slots)?,
            weights: DeviceArray::zeroed(device, WHAT, n_slots)?,
            offsets: numbers(shape.n_experts + 1)?,
            rows: numbers(n_slots)?,
            owners: numbers(n_slots)?,
            places: numbers(n_slots)?,
        })
    }

    pub(crate) fn download(&self, device: &Device) -> Result<HostRoutes> {
        let mut host = HostRoutes::new(&self.shape)?;
        self.experts.read(device, 0, &mut host.experts)?;
        self.weights.read(device, 0, &mut host.weights)?;
        self.offsets.read(device, 0, &mut host.offsets)?;
        self.rows.read(device, 0, &mut host.rows)?;
        self.owners.read(device, 0, &mut host.owners)?;
        self.places.read(device, 0, &mut host.places)?;
        Ok(host)
    }
}

/// The kernel for a number of experts.
fn kernel(n_experts: usize) -> &'static str {
    match n_experts {
        0..=32 => "moe_route_32",
        33..=64 => "moe_route_64",
        65..=128 => "moe_route_128",
        129..=256 => "moe_route_256",
        _ => "moe_route_512",
    }
}

pub(crate) fn run(cuda: &Cuda, op: MoeRoute<'_, Cuda>) -> Result<()> {
    let shape = op.routes.shape;
    let (n_rows, top_k) = (narrow(OP, op.n_rows)?, narrow(OP, shape.top_k)?);
    let n_experts = narrow(OP, shape.n_experts)?;
    let groups = op.routing.groups;
    let choose = Launch {
        module: "moe_route",
        kernel: kernel(shape.n_experts),
        grid: (n_rows.div_ceil(MOE_ROUTE_ROWS), 1, 1),
        threads: MOE_ROUTE_THREADS,
        shared_bytes: 0,
        params: MoeRouteParams {
            logits: op.logits.0.pointer(),
            bias: op.bias.map_or(std::ptr::null(), |bias| bias.0.pointer()),
            experts: op.routes.experts.pointer(),
            weights: op.routes.weights.pointer(),
            n_rows,
            n_experts,
            top_k,
            scoring: match op.routing.scoring {
                Scoring::Softmax => MOE_SOFTMAX,
                Scoring::SoftmaxOfChosen => MOE_SOFTMAX_OF_CHOSEN,
                Scoring::Sigmoid => MOE_SIGMOID,
            },
            n_groups: narrow(OP, groups.map_or(0, |groups| groups.n_groups))?,
            chosen_groups: narrow(OP, groups.map_or(0, |groups| groups.n_chosen))?,
            top_two: groups
                .is_some_and(|groups| groups.score == GroupScore::TopTwo)
                .into(),
            normalise: op.routing.normalise.into(),
            scale: op.routing.scale,
        },
    };
    let group = Launch {
        module: "moe_route",
        kernel: "moe_group",
        grid: (n_experts, 1, 1),
        threads: MOE_GROUP_THREADS,
        shared_bytes: 0,
        params: MoeGroupParams {
            experts: op.routes.experts.pointer(),
            offsets: op.routes.offsets.pointer(),
            rows: op.routes.rows.pointer(),
            owners: op.routes.owners.pointer(),
            places: op.routes.places.pointer(),
            n_slots: narrow(OP, op.n_rows * shape.top_k)?,
            top_k,
        },
    };
    let mut queue = cuda.queue();
    // SAFETY: the arrays are as long as their shapes say, and the routes are borrowed alone. The
    // kernels have room for as many experts, slots and groups as the checks allow; every expert
    // that the first writes is one of the second's blocks.
    unsafe {
        queue.launch(&cuda.device, &choose)?;
        queue.launch(&cuda.device, &group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::abi::{MOE_ROUTE_MAX_EXPERTS, MOE_ROUTE_MAX_GROUPS, MOE_ROUTE_MAX_TOP_K};
    use crate::ops::moe_route::{MAX_EXPERTS, MAX_GROUPS, MAX_TOP_K};

    #[test]
    fn kernels_have_room_for_what_the_checks_allow() {
        assert_eq!(MAX_EXPERTS, MOE_ROUTE_MAX_EXPERTS as usize);
        assert_eq!(MAX_TOP_K, MOE_ROUTE_MAX_TOP_K as usize);
        assert_eq!(MAX_GROUPS, MOE_ROUTE_MAX_GROUPS as usize);
        assert_eq!(kernel(33), "moe_route_64");
        assert_eq!(kernel(MAX_EXPERTS), "moe_route_512");
    }
}
