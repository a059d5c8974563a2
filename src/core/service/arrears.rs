//! What a copy has received and not applied, and since when.

use std::collections::VecDeque;
use std::time::Duration;

use crate::position::Position;
use crate::time::Wall;

/// Moments that are kept.
const MOMENTS: usize = 32;

/// Moments at which it had received what it has not applied yet, spread evenly: an age may be told
/// too low by some tenth of itself, but of what it never caught up with it is exact.
#[derive(Debug, Clone, Default, Hash)]
pub(crate) struct Arrears {
    moments: VecDeque<(Wall, Position)>,
}

impl Arrears {
    /// A look at it.
    pub(crate) fn note(&mut self, wall: Wall, received: &Position, applied: &Position) {
        while self.moments.front().is_some_and(|(_, seen)| applied.has(seen)) {
            self.moments.pop_front();
        }
        let stays = self.moments.back().is_some_and(|(_, last)| last == received);
        if stays || applied.has(received) {
            return;
        }
        if self.moments.len() == MOMENTS {
            let gap = |at: &usize| self.moments[at - 1].0.until(self.moments[at + 1].0);
            if let Some(closest) = (1..MOMENTS - 1).min_by_key(gap) {
                self.moments.remove(closest);
            }
        }
        self.moments.push_back((wall, received.clone()));
    }

    /// For how long it has had what it did not apply; zero: it has applied everything.
    pub(crate) fn age(&self, now: Wall) -> Duration {
        self.moments.front().map_or(Duration::ZERO, |(since, _)| since.until(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::MysqlPosition;

    /// So many transactions of one server.
    fn upto(count: u64) -> Position {
        let server = "11111111-0000-0000-0000-000000000000".to_owned();
        let set = format!("{server}:1-{count}").parse().expect("a good set");
        Position::Mysql(MysqlPosition { server, set })
    }

    /// A copy receives ten transactions in each of a thousand seconds, and applies nine.
    #[test]
    fn the_oldest_that_is_not_applied_counts_however_long_ago_it_came() {
        let mut arrears = Arrears::default();
        for second in 1..=1000 {
            let (received, applied) = (upto(second * 10), upto(second * 9));
            let now = Wall(i64::try_from(second * 1000).expect("small"));
            arrears.note(now, &received, &applied);
            let applied_came = second * 9 / 10; // What is applied now was received in this second.
            let exact = (second - applied_came) * 1000;
            let told = u64::try_from(arrears.age(now).as_millis()).expect("small");
            let most = exact / 8 + 1000;
            assert!(told.abs_diff(exact) <= most, "{told} ms for {exact} ms in second {second}");
        }
        assert!(arrears.moments.len() <= MOMENTS);
        arrears.note(Wall(1_001_000), &upto(10_000), &upto(10_000));
        assert_eq!(arrears.age(Wall(1_002_000)), Duration::ZERO);
    }
}
