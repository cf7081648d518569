//! Puts a view of `top` on the terminal: the head's pieces flow into lines, the tables below scroll.

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::view::{Piece, Tone, View};

/// Between two pieces that flow.
const GAP: usize = 2;
/// So many columns Left and Right move.
const STEP: usize = 8;
/// In a terminal of fewer lines the head scrolls with the tables.
const LINES_FOR_HEAD: usize = 16;

/// Which part of the tables is seen, and what keys do to it.
#[derive(Debug, Default)]
pub(crate) struct Scroll {
    /// The first line seen.
    top: usize,
    /// The first column seen.
    left: usize,
    /// What there was to see when it was drawn last.
    seen: Seen,
    /// Whether a key has ended the view.
    pub(crate) ended: bool,
}

#[derive(Debug, Default)]
struct Seen {
    /// Lines in all, and those that fit.
    lines: usize,
    page: usize,
    /// Columns in all, and those that fit.
    columns: usize,
    width: usize,
    /// The line each section begins at.
    starts: Vec<usize>,
}

impl Scroll {
    /// Does what a key says.
    pub(crate) fn press(&mut self, code: KeyCode) {
        let page = self.seen.page.saturating_sub(1).max(1);
        match code {
            KeyCode::Char('q') | KeyCode::Esc => self.ended = true,
            KeyCode::Up | KeyCode::Char('k') => self.top = self.top.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.top += 1,
            KeyCode::PageUp => self.top = self.top.saturating_sub(page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.top += page,
            KeyCode::Home => (self.top, self.left) = (0, 0),
            KeyCode::End => self.top = self.seen.lines,
            KeyCode::Left | KeyCode::Char('h') => self.left = self.left.saturating_sub(STEP),
            KeyCode::Right | KeyCode::Char('l') => self.left += STEP,
            KeyCode::Tab => {
                let next = self.seen.starts.iter().find(|start| **start > self.top);
                // Behind the last one that can be first comes the top again.
                let next = next.filter(|_| self.top < self.last_top());
                self.top = next.copied().unwrap_or(0);
            }
            KeyCode::BackTab => {
                let before = self.seen.starts.iter().rev().find(|start| **start < self.top);
                self.top = before.copied().unwrap_or(0);
            }
            _ => {}
        }
        self.keep_inside();
    }

    fn last_top(&self) -> usize {
        self.seen.lines.saturating_sub(self.seen.page)
    }

    fn keep_inside(&mut self) {
        self.top = self.top.min(self.last_top());
        self.left = self.left.min(self.seen.columns.saturating_sub(self.seen.width));
    }
}

/// Draws the view; what does not fit is reached by scrolling.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &View, scroll: &mut Scroll) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let mut head: Vec<Line<'_>> =
        view.head.iter().flat_map(|paragraph| flow(paragraph, width)).collect();
    let mut body = Vec::new();
    if height < LINES_FOR_HEAD {
        body.append(&mut head);
    }
    // The head's lines fit: only tables are shifted.
    let (pinned, flowing) = (head.len().min(height), body.len());
    let mut starts = Vec::new();
    for section in &view.sections {
        if pinned > 0 || !body.is_empty() {
            body.push(Line::default());
        }
        starts.push(body.len());
        body.extend(section.lines().iter().map(|cells| cells.iter().map(span).collect()));
    }
    let page = height.saturating_sub(pinned + 1);
    let columns = body.iter().map(Line::width).max().unwrap_or(0);
    scroll.seen = Seen { lines: body.len(), page, columns, width, starts };
    scroll.keep_inside();
    frame.render_widget(Paragraph::new(head), part(area, 0, pinned));
    let still = flowing.saturating_sub(scroll.top).min(page);
    let mut shown = body.into_iter().skip(scroll.top).take(page);
    let flowed: Vec<Line<'_>> = shown.by_ref().take(still).collect();
    frame.render_widget(Paragraph::new(flowed), part(area, pinned, still));
    let left = u16::try_from(scroll.left).unwrap_or(u16::MAX);
    let tables = Paragraph::new(shown.collect::<Vec<_>>()).scroll((0, left));
    frame.render_widget(tables, part(area, pinned + still, page - still));
    if height > 0 {
        frame.render_widget(foot(scroll, width), part(area, height - 1, 1));
    }
}

/// Lines of the area, from its line `from`.
fn part(area: Rect, from: usize, lines: usize) -> Rect {
    Rect { y: area.y + from as u16, height: lines as u16, ..area }
}

/// The last line: the keys, and what is seen of how much.
fn foot(scroll: &Scroll, width: usize) -> Line<'static> {
    let Seen { lines, page, .. } = scroll.seen;
    let place = if lines > page {
        let last = (scroll.top + page).min(lines);
        format!(" {}-{last} of {lines} ", scroll.top + 1)
    } else {
        String::new()
    };
    let keys = " q quit  ↑↓ scroll  Tab next part";
    let room = width.saturating_sub(place.chars().count());
    let keys: String = keys.chars().take(room).collect();
    Line::styled(format!("{keys:<room$}{place}"), Style::new().add_modifier(Modifier::REVERSED))
}

/// Pieces side by side as far as they fit, then on the next line.
fn flow(pieces: &[Piece], width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    for piece in pieces {
        let span = span(piece);
        let used = lines.last().map_or(0, Line::width);
        if used > 0 && used + GAP + span.width() > width {
            lines.push(Line::default());
        } else if used > 0
            && let Some(line) = lines.last_mut()
        {
            line.push_span(" ".repeat(GAP));
        }
        if let Some(line) = lines.last_mut() {
            line.push_span(span);
        }
    }
    lines
}

fn span(piece: &Piece) -> Span<'static> {
    let style = match piece.tone {
        Tone::Plain => Style::new(),
        Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        Tone::Dim => Style::new().add_modifier(Modifier::DIM),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    };
    Span::styled(piece.text.clone(), style)
}
