//! How a step is repeated: launch by launch, as a recorded graph, or in a loop on the device.

use super::looping::{self, LoopRows};
use super::{CudaDecoder, Key, RING, RUN_AHEAD};
use crate::cuda::Cuda;
use crate::cuda::graph::Graph;
use crate::decode::Pass;
use crate::error::Result;

/// A recorded step, or a loop of it, and which memory it knows.
pub(super) struct Recorded {
    graph: Graph,
    way: Way,
    generation: u64,
}

/// How steps are put on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One by one, launch by launch.
    Launches,
    /// One by one, each a launch of a graph.
    Graph,
    /// Many at once by one launch of a graph, in which the device repeats them.
    Loop,
}

impl CudaDecoder {
    /// Puts up to `n` steps on the stream, of the decoder's rows; how many.
    pub(super) fn put_steps(
        &mut self,
        cuda: &Cuda,
        n: usize,
        pass: &mut Pass<'_, Cuda>,
    ) -> Result<usize> {
        let way = self.way(cuda);
        let generation = cuda.queue().generation();
        let fits = |held: &Recorded| (held.way, held.generation) == (way, generation);
        if way == Way::Launches {
            return self.put_launches(cuda, n, pass);
        }
        if !self.graphs.get(&self.key).is_some_and(fits) {
            self.graphs.remove(&self.key);
            match self.record(cuda, way, pass)? {
                Some(recorded) => self.graphs.insert(self.key, recorded),
                None if self.way(cuda) == way => return self.put_launches(cuda, 1, pass),
                None => return self.put_steps(cuda, n, pass),
            };
        }
        let Some(recorded) = self.graphs.get_mut(&self.key) else {
            return self.put_launches(cuda, 1, pass);
        };
        if way == Way::Loop {
            let n = n.min(RING);
            let _noted = cuda.step_clock.note(&cuda.device, n)?;
            // At most a ring of tokens.
            (self.looping).run(cuda, &mut recorded.graph, n as u32)?;
            return Ok(n);
        }
        let n = n.min(RUN_AHEAD);
        for _ in 0..n {
            let _noted = cuda.step_clock.note(&cuda.device, 1)?;
            recorded.graph.launch()?;
        }
        Ok(n)
    }

    /// What the device and its driver have shown to be able to do. A step is recorded once it has
    /// run: all kernels are loaded then, and all memory is there.
    fn way(&self, cuda: &Cuda) -> Way {
        let step: (Key, u64) = (self.key, cuda.queue().generation());
        if !cuda.uses_graphs() || !self.warm.contains(&step) {
            Way::Launches
        } else if cuda.uses_loop() {
            Way::Loop
        } else {
            Way::Graph
        }
    }

    fn put_launches(&mut self, cuda: &Cuda, n: usize, pass: &mut Pass<'_, Cuda>) -> Result<usize> {
        // The next step is to be a recorded one, if it may.
        let n = match cuda.uses_graphs() {
            true => 1,
            false => n.min(RUN_AHEAD),
        };
        for _ in 0..n {
            let _noted = cuda.step_clock.note(&cuda.device, 1)?;
            self.run(cuda, pass)?;
        }
        self.warm.insert((self.key, cuda.queue().generation()));
        Ok(n)
    }

    /// Records the step. Where that fails, steps go on the next simpler way.
    fn record(
        &mut self,
        cuda: &Cuda,
        way: Way,
        pass: &mut Pass<'_, Cuda>,
    ) -> Result<Option<Recorded>> {
        let generation = cuda.queue().generation();
        let recorded = match way {
            Way::Loop => self.record_loop(cuda, pass),
            _ => Graph::record(&cuda.device, || self.run(cuda, pass)),
        };
        // A failure of the device itself is one of every later call, too.
        cuda.device.is_idle()?;
        match recorded {
            Ok(graph) if cuda.queue().generation() == generation => Ok(Some(Recorded {
                graph,
                way,
                generation,
            })),
            Ok(_) => Ok(None),
            Err(error) if way == Way::Loop => {
                tracing::warn!("decoding without a loop on the GPU: {error}");
                cuda.give_loop_up();
                Ok(None)
            }
            Err(error) => {
                tracing::warn!("decoding without CUDA graphs: {error}");
                cuda.give_graphs_up();
                Ok(None)
            }
        }
    }

    fn record_loop(&mut self, cuda: &Cuda, pass: &mut Pass<'_, Cuda>) -> Result<Graph> {
        let params = self.looping.params(LoopRows {
            slots: self.state.slots(),
            row_slots: self.word(3),
            // At most as many as slots, rounded up.
            n_rows: self.key.n_rows as u32,
        });
        // SAFETY: what the parameters name is the decoder's, as is the graph, and the slots of the
        // rows were checked when they were set.
        unsafe { looping::record(cuda, params, || self.run(cuda, pass)) }
    }
}
