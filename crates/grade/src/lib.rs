//! Judges of answers and pictures, and the benchmarks made of them.
//!
//! ```text
//!   answer, drawing    what a text answers, what a picture shows
//!   grader             judges: one trait for rewards and benchmarks alike
//!   interval           scores with 95 % intervals
//!   eval               benchmarks: pack folder + split + model -> report
//! ```

pub mod answer;
pub mod drawing;
pub mod error;
pub mod eval;
pub mod grader;
pub mod interval;

pub use drawing::Drawing;
pub use error::{Error, Result};
pub use eval::{Benchmark, Cost, EvalOptions, Report, evaluate};
pub use grader::{Grader, Reply, Truth};
pub use interval::{Interval, Score};
