//! Filters with wildcards, as a trie of tokens in one vector of nodes.
//!
//! Each token of a filter is one edge. A node knows its `*` child directly and its literal children by a short list that becomes a hash map
//! when it grows (`_INBOX.<id>.*` gives one node thousands of children). A trailing `>` is no node: its values lie at the node before it.
//! The depth is bounded by [`MAX_DEPTH`]; all walks are loops with a stack of their own.

use crate::index::{MAX_DEPTH, Values, take};
use foldhash::fast::FixedState;
use smallvec::SmallVec;
use std::collections::HashMap;

/// From so many literal children on, a node finds them by hash.
const MANY_CHILDREN: usize = 8;

/// Index of a node; 0 is the root, which is nobody's child, and so stands for "none" where a child is meant.
type NodeId = u32;

const ROOT: NodeId = 0;
const NONE: NodeId = 0;

#[derive(Clone, Debug)]
enum Children {
    Few(Vec<(Box<[u8]>, NodeId)>),
    #[allow(clippy::box_collection)] // the box keeps every other node 24 bytes smaller
    Many(Box<HashMap<Box<[u8]>, NodeId, FixedState>>),
}

#[derive(Clone, Debug)]
struct Node<T: Copy + Eq> {
    /// Literal next tokens.
    children: Children,
    /// The next token `*`, or [`NONE`].
    star: NodeId,
    /// Of filters that end here.
    values: Values<T>,
    /// Of filters that end in `>` right after this node.
    tail: Values<T>,
}

impl<T: Copy + Eq> Node<T> {
    fn new() -> Node<T> {
        Node { children: Children::Few(Vec::new()), star: NONE, values: Values::new(), tail: Values::new() }
    }

    fn is_empty(&self) -> bool {
        self.star == NONE && self.values.is_empty() && self.tail.is_empty() && self.children.is_empty()
    }
}

impl Children {
    fn is_empty(&self) -> bool {
        match self {
            Children::Few(list) => list.is_empty(),
            Children::Many(map) => map.is_empty(),
        }
    }

    fn find(&self, token: &[u8]) -> NodeId {
        match self {
            Children::Few(list) => list.iter().find(|(have, _)| &**have == token).map_or(NONE, |(_, child)| *child),
            Children::Many(map) => map.get(token).copied().unwrap_or(NONE),
        }
    }

    fn add(&mut self, token: &[u8], child: NodeId, state: &FixedState) {
        match self {
            Children::Few(list) if list.len() < MANY_CHILDREN => list.push((token.into(), child)),
            Children::Few(list) => {
                let mut map: HashMap<_, _, _> = HashMap::with_capacity_and_hasher(list.len() * 2, state.clone());
                map.extend(list.drain(..));
                map.insert(token.into(), child);
                *self = Children::Many(Box::new(map));
            }
            Children::Many(map) => {
                map.insert(token.into(), child);
            }
        }
    }

    fn remove(&mut self, token: &[u8]) {
        match self {
            Children::Few(list) => list.retain(|(have, _)| &**have != token),
            Children::Many(map) => {
                map.remove(token);
                // What was a crowd and is none any more gives its memory back.
                if map.is_empty() {
                    *self = Children::Few(Vec::new());
                }
            }
        }
    }

    #[allow(clippy::disallowed_methods)] // callers do not depend on the order
    fn for_each(&self, mut visit: impl FnMut(&[u8], NodeId)) {
        match self {
            Children::Few(list) => list.iter().for_each(|(token, child)| visit(token, *child)),
            Children::Many(map) => map.iter().for_each(|(token, child)| visit(token, *child)),
        }
    }
}

/// The trie. Values of one filter keep no order.
#[derive(Clone, Debug)]
pub(crate) struct Trie<T: Copy + Eq> {
    nodes: Vec<Node<T>>,
    free: Vec<NodeId>,
    state: FixedState,
}

impl<T: Copy + Eq> Trie<T> {
    pub(crate) fn new(state: FixedState) -> Trie<T> {
        Trie { nodes: vec![Node::new()], free: Vec::new(), state }
    }

    /// Nodes besides the root.
    #[cfg(test)]
    pub(crate) fn nodes_in_use(&self) -> usize {
        self.nodes.len() - 1 - self.free.len()
    }

    /// Adds a value; the filter has at most [`MAX_DEPTH`] tokens.
    pub(crate) fn insert(&mut self, filter: &str, value: T) {
        let mut at = ROOT;
        for token in filter.split('.') {
            if token == ">" {
                self.nodes[at as usize].tail.push(value);
                return;
            }
            at = match self.child(at, token) {
                NONE => self.add_child(at, token),
                child => child,
            };
        }
        self.nodes[at as usize].values.push(value);
    }

    fn child(&self, at: NodeId, token: &str) -> NodeId {
        let node = &self.nodes[at as usize];
        if token == "*" { node.star } else { node.children.find(token.as_bytes()) }
    }

    fn add_child(&mut self, at: NodeId, token: &str) -> NodeId {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::new());
            (self.nodes.len() - 1) as NodeId
        });
        let node = &mut self.nodes[at as usize];
        if token == "*" {
            node.star = child
        } else {
            node.children.add(token.as_bytes(), child, &self.state)
        }
        child
    }

    /// Takes one such value out and gives the nodes back that nothing needs any more.
    pub(crate) fn remove(&mut self, filter: &str, value: &T) -> bool {
        let mut path: SmallVec<[(NodeId, &str); MAX_DEPTH]> = SmallVec::new();
        let mut at = ROOT;
        let mut tail = false;
        for token in filter.split('.') {
            if token == ">" {
                tail = true;
                break;
            }
            path.push((at, token));
            at = self.child(at, token);
            if at == NONE {
                return false;
            }
        }
        let node = &mut self.nodes[at as usize];
        if !take(if tail { &mut node.tail } else { &mut node.values }, value) {
            return false;
        }
        while let Some((parent, token)) = path.pop() {
            if !self.nodes[at as usize].is_empty() {
                break;
            }
            self.nodes[at as usize] = Node::new();
            self.free.push(at);
            let node = &mut self.nodes[parent as usize];
            if token == "*" {
                node.star = NONE
            } else {
                node.children.remove(token.as_bytes())
            }
            at = parent;
        }
        true
    }

    /// Calls `visit` with every value whose filter matches.
    pub(crate) fn for_each_match(&self, subject: &[u8], visit: &mut impl FnMut(&T)) {
        if self.nodes[ROOT as usize].is_empty() {
            return;
        }
        // Nodes to visit, each with where its remaining tokens begin; past the end: none remain.
        let mut open: SmallVec<[(NodeId, u32); MAX_DEPTH]> = SmallVec::new();
        open.push((ROOT, 0));
        while let Some((at, start)) = open.pop() {
            let node = &self.nodes[at as usize];
            let Some(rest) = subject.get(start as usize..) else {
                node.values.iter().for_each(&mut *visit);
                continue;
            };
            node.tail.iter().for_each(&mut *visit);
            if node.star == NONE && node.children.is_empty() {
                continue;
            }
            let length = rest.iter().position(|byte| *byte == b'.').unwrap_or(rest.len());
            let next = start + length as u32 + 1;
            if node.star != NONE {
                open.push((node.star, next));
            }
            let child = node.children.find(&rest[..length]);
            if child != NONE {
                open.push((child, next));
            }
        }
    }

    /// Adds every filter of the trie that shares a subject with `filter`.
    pub(crate) fn overlapping<'a>(&'a self, filter: &str, found: &mut Vec<(String, &'a [T])>) {
        let tokens: Vec<&str> = filter.split('.').collect();
        let mut open: Vec<(NodeId, usize, String)> = vec![(ROOT, 0, String::new())];
        while let Some((at, depth, text)) = open.pop() {
            let node = &self.nodes[at as usize];
            // What is below a `>` of the filter overlaps, however deep.
            let below = depth >= tokens.len() && tokens.last() == Some(&">");
            let wanted = tokens.get(depth).copied().unwrap_or(if below { ">" } else { "" });
            let ends = below || depth == tokens.len();
            if ends && !node.values.is_empty() {
                found.push((text.clone(), &node.values));
            }
            if wanted.is_empty() {
                continue;
            }
            if !node.tail.is_empty() {
                found.push((joined(&text, ">"), &node.tail));
            }
            if node.star != NONE {
                open.push((node.star, depth + 1, joined(&text, "*")));
            }
            if wanted == "*" || wanted == ">" {
                node.children.for_each(|token, child| {
                    open.push((child, depth + 1, joined(&text, &String::from_utf8_lossy(token))));
                });
            } else if let child @ 1.. = node.children.find(wanted.as_bytes()) {
                open.push((child, depth + 1, joined(&text, wanted)));
            }
        }
    }
}

fn joined(text: &str, token: &str) -> String {
    if text.is_empty() { token.to_owned() } else { format!("{text}.{token}") }
}
