//! The parser: JSON with comments and trailing commas, and nothing else that some parsers let through.
//!
//! It gives where every value stands, in one flat list, and copies nothing: a large file is parsed at each update, and
//! most of it is left as it is. What strings and numbers mean is `serde_json`'s word.
//!
//! **Sources**: RFC 8259; the comments and trailing commas of `settings.json` and `tsconfig.json`.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

/// Values within values, as deep as a text or a value may be.
///
/// As deep as `serde_json` and others read by default.
pub(crate) const DEPTH_MAX: usize = 127;

/// A value in a text, or a name in an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    start: u32,
    end: u32,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number,
    String {
        /// Whether anything in it is written with a backslash.
        escaped: bool,
    },
    /// So many nodes of the list from `first` on are its elements.
    Array {
        first: u32,
        count: u32,
    },
    /// So many nodes of the list from `first` on are its names and values, by turns.
    Object {
        first: u32,
        count: u32,
    },
}

/// A text that was parsed.
#[derive(Debug)]
pub(crate) struct Tree<'t> {
    text: &'t str,
    nodes: Vec<Node>,
    root: Option<Node>,
}

/// Where a text is not valid, in bytes, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) why: Cow<'static, str>,
    /// Whether nothing is wrong but that the text has ended.
    pub(crate) ends_early: bool,
}

impl Fault {
    fn of(at: usize, why: Cow<'static, str>) -> Self {
        Self { at, why, ends_early: false }
    }
}

impl Node {
    /// Where it begins.
    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    /// Where it has ended.
    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }
}

impl<'t> Tree<'t> {
    /// Parses a text: one value, or none at all.
    pub(crate) fn parse(text: &'t str) -> Result<Self, Fault> {
        let mut parser =
            Parser { bytes: text.as_bytes(), at: 0, nodes: Vec::new(), open: Vec::new() };
        if u32::try_from(text.len()).is_err() {
            return Err(parser.fault("4 GiB or more"));
        }
        parser.skip()?;
        let mut root = None;
        if parser.peek().is_some() {
            root = Some(parser.value(0)?);
            parser.skip()?;
            if parser.peek().is_some() {
                return Err(parser.fault("more than one value"));
            }
        }
        Ok(Self { text, nodes: parser.nodes, root })
    }

    /// The one value; none when there is none.
    pub(crate) fn root(&self) -> Option<&Node> {
        self.root.as_ref()
    }

    /// The elements of an array, the names and values of an object.
    pub(crate) fn children(&self, node: &Node) -> &[Node] {
        let (Kind::Array { first, count } | Kind::Object { first, count }) = node.kind else {
            return &[];
        };
        let first = first as usize;
        self.nodes.get(first..first + count as usize).unwrap_or_default()
    }

    /// The members of an object.
    pub(crate) fn members(
        &self,
        node: &Node,
    ) -> impl DoubleEndedIterator<Item = [&Node; 2]> + ExactSizeIterator {
        self.children(node).as_chunks::<2>().0.iter().map(|[name, value]| [name, value])
    }

    fn written(&self, node: &Node) -> &'t str {
        self.text.get(node.start()..node.end()).unwrap_or_default()
    }

    /// What a string says; none when its escapes make no sense.
    fn string(&self, node: &Node) -> Result<Cow<'t, str>, Fault> {
        let written = self.written(node);
        if let Kind::String { escaped: false } = node.kind {
            return Ok(Cow::Borrowed(written.get(1..written.len() - 1).unwrap_or_default()));
        }
        let said = serde_json::from_str(written).map(Cow::Owned);
        said.map_err(|e| Fault::of(node.start() + e.column().saturating_sub(1), reason(&e)))
    }

    /// A name in an object. Its escapes make sense, or there is no value.
    pub(crate) fn name(&self, node: &Node) -> Cow<'t, str> {
        self.string(node).unwrap_or_default()
    }

    /// What a node means. Of a name that stands twice in an object the last one counts, as in most readers.
    pub(crate) fn value(&self, node: &Node) -> Result<Value, Fault> {
        Ok(match node.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(value),
            Kind::String { .. } => Value::String(self.string(node)?.into_owned()),
            Kind::Number => {
                let written = self.written(node);
                let why =
                    || format!("the number {written} is out of range or badly written").into();
                Value::Number(written.parse().map_err(|_| Fault::of(node.start(), why()))?)
            }
            Kind::Array { .. } => {
                let values = self.children(node).iter().map(|node| self.value(node));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            Kind::Object { .. } => {
                let members = self.members(node);
                let mut values = Map::with_capacity(members.len());
                for [name, value] in members {
                    values.insert(self.string(name)?.into_owned(), self.value(value)?);
                }
                Value::Object(values)
            }
        })
    }

    /// Whether a node that is neither array nor object means `value`.
    pub(crate) fn is_leaf(&self, node: &Node, value: &Value) -> bool {
        match (node.kind, value) {
            (Kind::Null, Value::Null) => true,
            (Kind::Bool(written), Value::Bool(value)) => written == *value,
            (Kind::String { .. }, Value::String(value)) => {
                self.string(node).is_ok_and(|written| written == *value)
            }
            (Kind::Number, Value::Number(value)) => {
                self.written(node).parse::<Number>().is_ok_and(|written| written == *value)
            }
            _ => false,
        }
    }
}

/// The reason of an error in a string, without the place.
fn reason(error: &serde_json::Error) -> Cow<'static, str> {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.clone(), |(why, _)| why.to_owned()).into()
}

struct Parser<'t> {
    bytes: &'t [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The members of arrays and objects that are not closed yet.
    open: Vec<Node>,
}

impl Parser<'_> {
    fn fault(&self, why: &'static str) -> Fault {
        Fault { at: self.at, why: why.into(), ends_early: self.at >= self.bytes.len() }
    }

    /// A fault that more text might mend.
    fn open_end(&self, why: &'static str) -> Fault {
        Fault { ends_early: true, ..self.fault(why) }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Goes on behind spaces and comments.
    fn skip(&mut self) -> Result<(), Fault> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'/') => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        self.at += if rest.starts_with(b"//") {
            rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len())
        } else if let Some(inside) = rest.strip_prefix(b"/*") {
            match inside.windows(2).position(|two| two == b"*/") {
                Some(length) => length + 4,
                None => return Err(self.open_end("a comment without an end")),
            }
        } else {
            return Err(self.fault("neither a value nor a comment"));
        };
        Ok(())
    }

    /// A value, from its first byte on, in so many others.
    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{' | b'[') if depth == DEPTH_MAX => {
                let why = format!("nested deeper than {DEPTH_MAX} levels, the greatest depth");
                return Err(Fault::of(start, why.into()));
            }
            Some(b'{') => self.object(depth + 1)?,
            Some(b'[') => self.array(depth + 1)?,
            Some(b'-' | b'0'..=b'9') => {
                let is_number =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                self.at += self.rest().iter().take_while(|byte| is_number(byte)).count();
                Kind::Number
            }
            Some(b'n') => self.word(b"null", Kind::Null)?,
            Some(b't') => self.word(b"true", Kind::Bool(true))?,
            Some(b'f') => self.word(b"false", Kind::Bool(false))?,
            Some(b'\'') => return Err(self.fault("single-quoted strings are no JSON")),
            Some(_) => return Err(self.fault("a value was expected")),
            None => return Err(self.fault("the text ends where a value was expected")),
        };
        Ok(self.node(start, kind))
    }

    fn node(&self, start: usize, kind: Kind) -> Node {
        // A text is shorter than 4 GiB.
        Node { start: start as u32, end: self.at as u32, kind }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, Fault> {
        let goes_on =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if word.starts_with(self.rest()) && self.rest().len() < word.len() {
            return Err(self.open_end("the text ends within a word"));
        }
        if !self.rest().starts_with(word) || goes_on(self.rest().get(word.len())) {
            return Err(self.fault("a value was expected"));
        }
        self.at += word.len();
        Ok(kind)
    }

    /// A string, without looking at what its escapes say.
    fn string(&mut self) -> Result<Kind, Fault> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Kind::String { escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at = self.bytes.len().min(self.at + 2);
                }
                Some(_) => {
                    return Err(self.fault("a control character in a string; write it as \\u…."));
                }
                None => return Err(self.open_end("a string without an end")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Fault> {
        let from = self.open.len();
        self.at += 1;
        loop {
            self.skip()?;
            if self.peek() == Some(b']') {
                break;
            }
            let element = self.value(depth)?;
            self.open.push(element);
            self.skip()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.fault("a comma or the end of the array was expected")),
            }
        }
        let (first, count) = self.close(from);
        Ok(Kind::Array { first, count })
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Fault> {
        let from = self.open.len();
        self.at += 1;
        loop {
            self.skip()?;
            match self.peek() {
                Some(b'}') => break,
                Some(b'"') => {}
                Some(b'\'') => return Err(self.fault("single-quoted strings are no JSON")),
                _ => return Err(self.fault("a name in double quotes was expected")),
            }
            let start = self.at;
            let name = self.string()?;
            self.open.push(self.node(start, name));
            self.skip()?;
            if self.peek() != Some(b':') {
                return Err(self.fault("a colon was expected behind the name"));
            }
            self.at += 1;
            self.skip()?;
            let value = self.value(depth)?;
            self.open.push(value);
            self.skip()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.fault("a comma or the end of the object was expected")),
            }
        }
        let (first, count) = self.close(from);
        Ok(Kind::Object { first, count })
    }

    /// Goes on behind the bracket and moves the members from `from` on to the list.
    fn close(&mut self, from: usize) -> (u32, u32) {
        self.at += 1;
        let first = self.nodes.len();
        self.nodes.extend(self.open.drain(from..));
        // There are fewer nodes than bytes.
        (first as u32, (self.nodes.len() - first) as u32)
    }
}

/// How many bytes of a string can be passed over: up to a quote, a backslash or a control character.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is less than `limit`, up to the first one; behind it some may be wrong.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        let found = below(word, 0x20) | is(b'"') | is(b'\\');
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests;
