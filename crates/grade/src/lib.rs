//! Judges of answers and pictures, and the benchmarks made of them.
//!
//! ```text
//!   answer, drawing    what a text answers, what a picture shows
//!   equality           whether two answers mean the same in mathematics
//!   grader             judges: one trait for rewards and benchmarks alike
//!   nearest            what a painting shows, told by the training picture nearest to it
//!   judge              many replies at once: graders, networks, endpoints
//!   clip               how well text and picture fit
//!   image_reward       how much people would like the picture
//!   endpoint           a judge of one's own, over HTTP
//!   interval           scores with 95 % intervals
//!   eval               benchmarks: pack folder + split + model -> report
//! ```

pub mod answer;
pub mod clip;
pub mod drawing;
pub mod endpoint;
pub mod equality;
pub mod error;
pub mod eval;
pub mod grader;
pub mod image_reward;
pub mod interval;
pub mod judge;
pub mod nearest;
mod pairs;

pub use clip::ClipScore;
pub use drawing::Drawing;
pub use endpoint::{Endpoint, EndpointOptions};
pub use error::{Error, Result};
pub use eval::{Benchmark, Cost, EvalOptions, Report, Right, evaluate};
pub use grader::{Grader, Reply, Truth};
pub use image_reward::ImageRewardScore;
pub use interval::{Interval, Score};
pub use judge::{Case, Each, Judge, Judged};
pub use nearest::{Coverage, Likeness};
