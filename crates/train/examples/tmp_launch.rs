//! temporary
use mmada_train::*;
struct Print;
impl Reporter for Print {
    fn report(&self, e: &Event<'_>) {
        match e {
            Event::Step { .. } => {}
            Event::Metrics(r) => {
                let g = |n: &str| r.get(n).unwrap_or(f64::NAN);
                println!("{} loss {:.4} psnr {:.2} use {:.3} gn {:.3} tok/s {:.0} data {:.3} batch {:.3}", r.step, g("loss"), g("psnr"), g("codebook_usage"), g("grad_norm"), g("tokens_per_second"), g("data_time"), g("batch_time"));
            }
            e => println!("{e:?}"),
        }
    }
}
fn main() {
    let mut a = std::env::args().skip(1);
    let path = a.next().unwrap();
    let mut o = LaunchOptions::default();
    let mut rest: Vec<String> = a.collect();
    if rest.first().map(String::as_str) == Some("--resume") { rest.remove(0); o.mode = Mode::Resume; }
    match launch(path.as_ref(), &rest, o, &Print) { Ok(x) => println!("{x:?}"), Err(e) => { eprintln!("{e}"); std::process::exit(1) } }
}
