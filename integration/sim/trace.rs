//! The story of a run in lines that a person can read, and a hash over all that happened.

use std::fmt::{self, Write as _};

use super::schedule::{Micros, SECOND};

/// The lines, if they are wanted, and the hash, always.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Are lines kept?
    pub(crate) on: bool,
    /// The lines so far.
    pub(crate) lines: Vec<String>,
    /// Those worth telling, since the story began.
    pub(crate) story: Vec<String>,
    began: Option<Micros>,
    hash: u64,
}

impl Trace {
    /// Nothing yet; with lines, or without.
    pub(crate) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, at: Micros, text: fmt::Arguments<'_>) {
        let mut line = format!("{:>4}.{:06}s ", at / SECOND, at % SECOND);
        // Writing to a string cannot fail.
        let _ = line.write_fmt(text);
        for byte in line.bytes() {
            self.mix(u64::from(byte));
        }
        self.lines.push(line);
    }

    /// From now on the lines worth telling are kept.
    pub(crate) fn begin_story(&mut self, at: Micros) {
        self.began = Some(at);
    }

    /// Adds a line worth telling, by tenths of seconds since the story began.
    pub(crate) fn note(&mut self, at: Micros, text: fmt::Arguments<'_>) {
        if let Some(began) = self.began {
            let tenths = (at - began) / (SECOND / 10);
            self.story.push(format!("{:>4}.{} s  {text}", tenths / 10, tenths % 10));
        }
        self.line(at, text);
    }

    /// Takes a number into the hash.
    pub(crate) fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
    }

    /// The hash over everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}
