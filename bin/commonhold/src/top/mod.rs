//! `top`: a live view of a segment. [`eye`] looks, [`view`] says what is shown ([`pool`] of a queue), [`draw`] puts it on the terminal, and
//! the loop here waits for the next look, a key or a signal.

mod draw;
mod eye;
mod pool;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use commonhold::wait::Deadline;
use nix::sys::signal::Signal;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::connect::Globals;
use crate::failure::{Done, Failure};
use crate::output::Output;
use crate::parse::duration;
use crate::signals::{PIECE, Signals};

use draw::Scroll;
use eye::Eye;
use view::Story;

/// Watch a segment live in the terminal
///
/// Shows a segment as it works: commits, lost exchanges and waits per second, the steward and what is not stored
/// yet, tables, guards, counters and the processes that use it; workers, the queue before them and tasks per second
/// where it has a queue. Takes no entry and writes nothing: it disturbs
/// nobody. When the segment goes or is made anew, it says so and goes on looking. Keys: q, Esc or Ctrl-C ends;
/// arrows, Page Up, Page Down, Home and End scroll; Tab goes to the next part.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  commonhold top
  commonhold top --interval 250ms
  commonhold top --once --interval 5s     (one frame as text: what happened in five seconds)")]
pub(crate) struct Top {
    /// The time from one look to the next, at least 10ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Look twice, an interval apart, print one frame as text and end; needs no terminal
    #[arg(long)]
    once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    let shortest = Duration::from_millis(10);
    if interval < shortest { Err("it is at least 10ms".to_owned()) } else { Ok(interval) }
}

impl Top {
    pub(crate) fn run(&self, globals: &Globals) -> Done {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if !self.once && !terminal {
            return Err(Failure::usage(
                "top needs a terminal on stdin and stdout; without one: commonhold top --once",
            ));
        }
        let signals = Signals::catch()?;
        let mut eye = Eye::new(globals.config()?);
        // A name that is wrong from the start is an error; a segment that goes later is waited for.
        let mut story = Story::new(eye.look()?);
        if self.once {
            signals.sleep(self.interval)?;
            story.tell(Ok(eye.look()?));
            let mut out = Output::new();
            out.text(story.view().text())?;
            return out.finish();
        }
        let mut screen = Screen::open()?;
        let mut scroll = Scroll::default();
        loop {
            self.show(&signals, &mut screen, &story, &mut scroll)?;
            if scroll.ended {
                return Ok(());
            }
            story.tell(eye.look().map_err(|failure| failure.line().unwrap_or_default()));
        }
    }

    /// Shows the story and does what keys say, until it is time for the next look.
    fn show(
        &self,
        signals: &Signals,
        screen: &mut Screen,
        story: &Story,
        scroll: &mut Scroll,
    ) -> Done {
        let view = story.view();
        let deadline = Deadline::after(self.interval);
        screen.0.draw(|frame| draw::draw(frame, &view, scroll))?;
        while let Some(left) = deadline.left() {
            signals.check()?;
            if event::poll(left.min(PIECE))? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => press(key, scroll)?,
                    Event::Resize(..) => {}
                    _ => continue,
                }
                if scroll.ended {
                    return Ok(());
                }
                screen.0.draw(|frame| draw::draw(frame, &view, scroll))?;
            }
        }
        signals.check()
    }
}

/// Does what a key says. Ctrl-C is a key here: the terminal is in raw mode and sends no signal.
fn press(key: KeyEvent, scroll: &mut Scroll) -> Done {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Err(Failure::Signal(Signal::SIGINT)),
            _ => Ok(()),
        };
    }
    scroll.press(key.code);
    Ok(())
}

/// The terminal in raw mode, with a screen of its own. Dropping it gives the terminal back as it was; a panic does
/// so before it is told, or nobody would see it.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Self, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                ratatui::restore();
                Err(Failure::failed(format!("cannot use the terminal: {error}; try top --once")))
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        ratatui::restore();
    }
}

#[cfg(test)]
mod key_tests {
    use super::*;

    #[test]
    fn keys_end_the_view_or_scroll_it() {
        let mut scroll = Scroll::default();
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert!(matches!(press(control('c'), &mut scroll), Err(Failure::Signal(Signal::SIGINT))));
        assert!(press(control('q'), &mut scroll).is_ok() && !scroll.ended);
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            let mut scroll = Scroll::default();
            press(KeyEvent::new(code, KeyModifiers::NONE), &mut scroll).unwrap();
            assert!(scroll.ended, "{code:?}");
        }
    }

    #[test]
    fn an_interval_is_ten_milliseconds_at_least() {
        assert_eq!(interval("10ms"), Ok(Duration::from_millis(10)));
        assert!(interval("9ms").is_err() && interval("0").is_err() && interval("x").is_err());
    }
}
