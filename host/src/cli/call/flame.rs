//! Where a call's instructions go. The call is run again with only a part of
//! its instructions allowed, and then a little more, and so on: where each run
//! stops is a sample. Exact up to where the next function or loop begins, for
//! there it is looked at, and the same each time.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::report::Hot;
use super::stage::Stage;

const SAMPLES: u64 = 200;
/// A long call gets so few at least, …
const SAMPLES_MIN: u64 = 10;
/// … and no more than it can execute this for: some ten seconds.
const FUEL_MAX: u64 = 10_000_000_000;
const HOTTEST: usize = 10;

pub struct Profile {
    /// Outermost function first → samples.
    stacks: BTreeMap<Vec<String>, u64>,
}

impl Profile {
    /// Of a call that takes so much fuel.
    pub async fn take(stage: &Stage, fuel: u64) -> Self {
        let mut stacks = BTreeMap::new();
        // On average each run has half of the fuel.
        let samples = (FUEL_MAX * 2 / fuel.max(1)).clamp(SAMPLES_MIN, SAMPLES);
        for sample in 0..samples {
            let at = u128::from(fuel) * u128::from(2 * sample + 1) / u128::from(2 * samples);
            if let Some(stack) = stage.stack_at(at as u64).await {
                *stacks.entry(stack).or_insert(0) += 1;
            }
        }
        Self { stacks }
    }

    /// One line a stack, `a;b;c 12`.
    pub fn folded(&self) -> String {
        let line = |(stack, samples): (&Vec<String>, &u64)| {
            let names: Vec<String> = stack.iter().map(|name| name.replace(';', ":")).collect();
            format!("{} {samples}\n", names.join(";"))
        };
        self.stacks.iter().map(line).collect()
    }

    pub fn hottest(&self) -> Vec<Hot> {
        let mut own: BTreeMap<&str, u64> = BTreeMap::new();
        for (stack, samples) in &self.stacks {
            *own.entry(stack.last().map_or("", String::as_str)).or_default() += samples;
        }
        let all: u64 = own.values().sum();
        let mut own: Vec<(&str, u64)> = own.into_iter().collect();
        own.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        own.truncate(HOTTEST);
        own.into_iter().map(|(function, samples)| Hot { function: function.to_owned(), percent: 100.0 * samples as f64 / all as f64 }).collect()
    }

    /// A picture that stands by itself; a name shows whole where the pointer rests.
    pub fn svg(&self, title: &str) -> String {
        let mut root = Frame::default();
        for (stack, samples) in &self.stacks {
            root.add(stack, *samples);
        }
        let height = (root.depth() + 1) * Frame::HEIGHT + 30;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"monospace\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"6\" y=\"18\" font-size=\"13\">{}</text>\n",
            escaped(title),
            width = Frame::WIDTH,
        );
        root.draw("all", 0.0, height - Frame::HEIGHT - 4, root.samples, &mut svg);
        svg.push_str("</svg>\n");
        svg
    }
}

/// A function among those that its caller has called.
#[derive(Default)]
struct Frame {
    samples: u64,
    callees: BTreeMap<String, Frame>,
}

impl Frame {
    const WIDTH: usize = 1_200;
    const HEIGHT: usize = 17;
    /// Of one character.
    const CHARACTER: f64 = 6.7;

    fn add(&mut self, stack: &[String], samples: u64) {
        self.samples += samples;
        if let Some((first, rest)) = stack.split_first() {
            self.callees.entry(first.clone()).or_default().add(rest, samples);
        }
    }

    fn depth(&self) -> usize {
        1 + self.callees.values().map(Frame::depth).max().unwrap_or(0)
    }

    /// Callers below, callees above.
    fn draw(&self, name: &str, x: f64, y: usize, all: u64, svg: &mut String) {
        let width = Self::WIDTH as f64 * self.samples as f64 / all.max(1) as f64;
        let characters = ((width - 6.0) / Self::CHARACTER).max(0.0) as usize;
        let shown: String = if name.chars().count() <= characters { name.to_owned() } else { name.chars().take(characters.saturating_sub(1)).chain(['…']).collect() };
        // Warm colours, one for each name.
        let hash = blake3::hash(name.as_bytes());
        let [red, green, blue] = [205 + hash.as_bytes()[0] % 50, 90 + hash.as_bytes()[1] % 120, 40 + hash.as_bytes()[2] % 40];
        let percent = 100.0 * self.samples as f64 / all.max(1) as f64;
        _ = writeln!(
            svg,
            "<g><title>{} ({percent:.1} %)</title><rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"rgb({red},{green},{blue})\" stroke=\"#fff\"/>",
            escaped(name),
            Self::HEIGHT,
        );
        if characters >= 3 {
            _ = write!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x + 3.0, y + 12, escaped(&shown));
        }
        svg.push_str("</g>\n");
        let mut x = x;
        for (name, callee) in &self.callees {
            callee.draw(name, x, y.saturating_sub(Self::HEIGHT), all, svg);
            x += Self::WIDTH as f64 * callee.samples as f64 / all.max(1) as f64;
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_folded_and_drawn() {
        let stack = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let stacks = [(stack(&["a", "b<T; 2>"]), 3), (stack(&["a"]), 1)].into();
        let profile = Profile { stacks };
        assert_eq!(profile.folded(), "a 1\na;b<T: 2> 3\n");
        let hottest: Vec<(String, f64)> = profile.hottest().into_iter().map(|hot| (hot.function, hot.percent)).collect();
        assert_eq!(hottest, [("b<T; 2>".to_owned(), 75.0), ("a".to_owned(), 25.0)]);
        let svg = profile.svg("title & more");
        assert!(svg.contains("title &amp; more") && svg.contains("b&lt;T; 2&gt; (75.0 %)") && svg.contains("width=\"900.0\""), "{svg}");
    }
}
