//! Micro-batches side by side.
//!
//! ```text
//!   threads 8, accumulate 4      worker 0: 2 threads ── micro-batch 0, 4, …
//!                                worker 1: 2 threads ── micro-batch 1, 5, …   results in order
//! ```
//!
//! A network of the size that a processor trains leaves its threads waiting for each other at every
//! operation. Whole micro-batches depend on nothing but the weights: one thread can take one from
//! its first product to its last gradient. What is computed is the same for any number of workers.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// Groups of threads of equal size.
#[derive(Debug)]
pub(crate) struct Workers {
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// Shares `threads` (0: one per core) among at most `most` workers.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub(crate) fn new(threads: usize, most: usize) -> Result<Self> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let workers = most.clamp(1, threads);
        let pool = |_| {
            let pool = ThreadPoolBuilder::new().num_threads(threads / workers);
            pool.build()
                .map_err(|error| Error::Config(format!("run.threads = {threads}: {error}")))
        };
        Ok(Self {
            pools: (0..workers).map(pool).collect::<Result<_>>()?,
        })
    }

    /// How many items are worked on at a time.
    pub(crate) fn count(&self) -> usize {
        self.pools.len()
    }

    /// Works on at most [`Workers::count`] items at once; the results have their order.
    pub(crate) fn map<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> R + Sync,
    ) -> Vec<R> {
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> = items
                .iter()
                .zip(&self.pools)
                .map(|(item, pool)| scope.spawn(move || pool.install(|| work(item))))
                .collect();
            let results = running.into_iter().map(|thread| {
                let result = thread.join();
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            results.collect()
        })
    }
}
