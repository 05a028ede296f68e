//! Whole numbers of any size, as counters need them: decimal digits, since that is how they come, are stored and leave. Bounded by what holds them:
//! an increment by the headers of a message, a total by its payload.

use std::cmp::Ordering;
use std::fmt;

/// A whole number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Number {
    /// Below zero; never set for zero itself.
    is_negative: bool,
    /// Most significant first, 0 to 9 each, without leading zeros; none: zero.
    digits: Vec<u8>,
}

impl Number {
    /// Reads digits, after a sign if there is one; `None`: it is no number.
    pub(crate) fn parse(text: &[u8]) -> Option<Number> {
        let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let digits = digits.iter().map(|digit| digit - b'0').skip_while(|digit| *digit == 0).collect();
        Some(Number::new(text.starts_with(b"-"), digits))
    }

    fn new(is_negative: bool, digits: Vec<u8>) -> Number {
        Number { is_negative: is_negative && !digits.is_empty(), digits }
    }

    /// The sum.
    pub(crate) fn plus(&self, other: &Number) -> Number {
        if self.is_negative == other.is_negative {
            return Number::new(self.is_negative, sum(&self.digits, &other.digits));
        }
        match compare(&self.digits, &other.digits) {
            Ordering::Equal => Number::default(),
            Ordering::Greater => Number::new(self.is_negative, difference(&self.digits, &other.digits)),
            Ordering::Less => Number::new(other.is_negative, difference(&other.digits, &self.digits)),
        }
    }

    /// The difference.
    pub(crate) fn minus(&self, other: &Number) -> Number {
        self.plus(&Number::new(!other.is_negative, other.digits.clone()))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.digits.len() + 1);
        if self.is_negative {
            text.push('-');
        }
        text.extend(self.digits.iter().map(|digit| char::from(b'0' + digit)));
        if self.digits.is_empty() {
            text.push('0');
        }
        out.write_str(&text)
    }
}

fn compare(one: &[u8], two: &[u8]) -> Ordering {
    one.len().cmp(&two.len()).then_with(|| one.cmp(two))
}

fn sum(one: &[u8], two: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(one.len().max(two.len()) + 1);
    let (mut one, mut two, mut carry) = (one.iter().rev(), two.iter().rev(), 0);
    loop {
        let (left, right) = (one.next(), two.next());
        if left.is_none() && right.is_none() && carry == 0 {
            result.reverse();
            return result;
        }
        let digit = left.copied().unwrap_or(0) + right.copied().unwrap_or(0) + carry;
        result.push(digit % 10);
        carry = digit / 10;
    }
}

/// What is left of the larger one.
fn difference(larger: &[u8], smaller: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(larger.len());
    let (mut smaller, mut borrowed) = (smaller.iter().rev(), 0);
    for digit in larger.iter().rev() {
        let taken = smaller.next().copied().unwrap_or(0) + borrowed;
        borrowed = u8::from(*digit < taken);
        result.push(digit + 10 * borrowed - taken);
    }
    while result.last() == Some(&0) {
        result.pop();
    }
    result.reverse();
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::Number;

    fn number(text: &str) -> Number {
        Number::parse(text.as_bytes()).expect("a number")
    }

    #[test]
    fn numbers_are_read_as_stock_reads_them() {
        for (text, wanted) in [("1", "1"), ("+1", "1"), ("-1", "-1"), ("-0", "0"), ("007", "7"), ("000", "0")] {
            assert_eq!(number(text).to_string(), wanted);
        }
        for text in ["", "+", "-", "1.5", "1e3", " 1", "1_000", "0x1", "--1", "n"] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_grow_beyond_any_machine_word() {
        let large = number(&"9".repeat(100));
        assert_eq!(large.plus(&number("1")).to_string(), format!("1{}", "0".repeat(100)));
        assert_eq!(large.plus(&number("1")).minus(&number("1")), large);
    }

    proptest! {
        #[test]
        fn sums_equal_those_of_machine_words(one in any::<i64>(), two in any::<i64>()) {
            let (left, right) = (number(&one.to_string()), number(&two.to_string()));
            assert_eq!(left.plus(&right).to_string(), (i128::from(one) + i128::from(two)).to_string());
            assert_eq!(left.minus(&right).to_string(), (i128::from(one) - i128::from(two)).to_string());
        }
    }
}
