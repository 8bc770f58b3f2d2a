//! A book for the eye: in a terminal and in a notebook.

use std::fmt::Write as _;

use crate::fixed;
use crate::levels::Side;
use crate::view::{View, ViewLevel};

/// Levels shown of each side; a look is not a dump.
const SHOWN: usize = 10;

/// `0.52 x 1200 (kalshi 500, polymarket 700)`.
#[must_use]
pub fn level(level: &ViewLevel, names: &[Box<str>]) -> String {
    let (price, total) = (fixed::format(level.price.micro()), fixed::format(level.sizes.total()));
    format!("{price} x {total} ({})", parts(level, names))
}

fn parts(level: &ViewLevel, names: &[Box<str>]) -> String {
    let part = |cell: &crate::levels::Cell| {
        let name = names.get(usize::from(cell.leg)).map_or("", |name| name);
        format!("{name} {}", fixed::format(cell.size.micro()))
    };
    level.sizes.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn headline(view: &View) -> String {
    let crossed = if view.crossed { ", crossed" } else { "" };
    format!("{} [{}{crossed}] epoch {} seq {}", view.id, view.state.as_str(), view.epoch, view.seq)
}

/// Asks above bids, best in the middle.
#[must_use]
pub fn text(view: &View) -> String {
    let mut out = headline(view);
    let mut row = |level: &ViewLevel, side: &str| {
        let (price, size) = (fixed::format(level.price.micro()), fixed::format(level.sizes.total()));
        // Writing to a String cannot fail.
        let _ = write!(out, "\n  {side} {price:>8} {size:>16}  {}", parts(level, &view.names));
    };
    view.asks.iter().take(SHOWN).rev().for_each(|level| row(level, "ask"));
    view.bids.iter().take(SHOWN).for_each(|level| row(level, "bid"));
    let hidden = |side: Side| view.side(side).len().saturating_sub(SHOWN);
    let (bids, asks) = (hidden(Side::Bid), hidden(Side::Ask));
    if bids + asks > 0 {
        let _ = write!(out, "\n  and {bids} bids, {asks} asks more");
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A table for a notebook.
#[must_use]
pub fn html(view: &View) -> String {
    let mut out = format!(
        "<table><caption>{}</caption><thead><tr><th></th><th>price</th><th>size</th><th>legs</th></tr></thead><tbody>",
        escape(&headline(view))
    );
    let mut row = |level: &ViewLevel, side: &str, colour: &str| {
        let (price, size) = (fixed::format(level.price.micro()), fixed::format(level.sizes.total()));
        let legs = escape(&parts(level, &view.names));
        let _ = write!(
            out,
            "<tr><td style=\"color:{colour}\">{side}</td><td>{price}</td><td>{size}</td><td>{legs}</td></tr>"
        );
    };
    view.asks.iter().take(SHOWN).rev().for_each(|level| row(level, "ask", "#b3261e"));
    view.bids.iter().take(SHOWN).for_each(|level| row(level, "bid", "#1b7f3b"));
    out.push_str("</tbody></table>");
    out
}
