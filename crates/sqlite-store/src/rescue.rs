//! The part of a salvage that does without trees: rows found page by page, where a walk met something that it could not read. A page that only damaged
//! ones lead to costs nothing then, and neither does a schema that is gone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::pages::{Column, INTERIOR_INDEX, LEAF_INDEX, LEAF_TABLE, Liveness, Page, Pages, columns};
use crate::row::{Row, decode_chunk};
use crate::salvage::{Copy, log_of};

/// Pages between two looks at the room on the disk; one transaction each.
const STEP: u32 = 256;
/// The tables that each store has from the start are created in one order: these are the pages of their roots.
const FIRST_ROOTS: std::ops::RangeInclusive<u32> = 2..=6;

impl Copy<'_> {
    /// Adds what the file holds and the walk has not found.
    pub(crate) fn rescue(&mut self, aside: &Path) -> rusqlite::Result<()> {
        let Ok(pages) = Pages::open(aside, &log_of(aside)) else { return Ok(()) };
        let live = Liveness::of(&pages);
        self.each_page(&pages, |copy, number, page| {
            if live.is_live(number) || FIRST_ROOTS.contains(&number) {
                copy.descriptions_of(&pages, page)?;
            }
            Ok(())
        })?;
        self.ids()?;
        // Small streams: a single page, which nothing leads to, unless the schema does.
        let mut single: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
        self.each_page(&pages, |copy, number, page| {
            if page[0] != LEAF_TABLE {
                return Ok(());
            }
            if live.is_live(number) || FIRST_ROOTS.contains(&number) {
                return copy.rows_of(&pages, page, None);
            }
            if !live.is_certain() {
                pages.rows(page, |key, record| {
                    if let Some(row) = message(key, record) {
                        let newest = single.entry(row.stream).or_default();
                        *newest = (*newest).max((key as u64, number));
                    }
                });
                single.retain(|id, _| copy.streams.contains_key(id));
            }
            Ok(())
        })?;
        for (id, (_, number)) in single {
            let alone = self.streams.get(&id).is_some_and(|known| known.messages == 0);
            if let Some(page) = pages.read(number).filter(|_| alone) {
                self.rows_of(&pages, &page, Some(id))?;
            }
        }
        Ok(())
    }

    fn each_page(
        &mut self,
        pages: &Pages,
        mut each: impl FnMut(&mut Self, u32, &Page) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut number = 2;
        while number <= pages.count {
            if !(self.room)() {
                self.salvaged.out_of_room = true;
                return Ok(());
            }
            self.fresh.execute_batch("BEGIN")?;
            let end = number.saturating_add(STEP).min(pages.count + 1);
            for number in number..end {
                if let Some(page) = pages.read(number) {
                    each(self, number, &page)?;
                }
            }
            self.fresh.execute_batch("COMMIT")?;
            number = end;
        }
        Ok(())
    }

    /// Records, and rows of the table `stream`.
    fn descriptions_of(&mut self, pages: &Pages, page: &Page) -> rusqlite::Result<()> {
        let mut failed = Ok(());
        match page[0] {
            LEAF_INDEX | INTERIOR_INDEX => pages.keyed(page, |record| {
                if let Some([Column::Blob(key), Column::Blob(value)]) = columns(record).as_deref()
                    && let Err(error) = self.keep_record(key, value)
                {
                    failed = Err(error);
                }
            }),
            LEAF_TABLE => pages.rows(page, |key, record| {
                if let Some(
                    [
                        Column::Null,
                        Column::Integer(deleted),
                        Column::Blob(description),
                        Column::Blob(_),
                        Column::Blob(position),
                    ],
                ) = columns(record).as_deref()
                    && let Ok(id) = u32::try_from(key)
                    && crate::checkpoint::decode_position(position).is_some()
                {
                    self.describe(id, *deleted == 1, description, position);
                }
            }),
            _ => {}
        }
        failed
    }

    /// Messages (of one stream, if said) and chunks of payloads.
    fn rows_of(&mut self, pages: &Pages, page: &Page, only: Option<u32>) -> rusqlite::Result<()> {
        let mut failed = Ok(());
        pages.rows(page, |key, record| {
            if failed.is_ok() {
                failed = self.keep_row(key, record, only);
            }
        });
        failed
    }

    fn keep_row(&mut self, key: i64, record: &[u8], only: Option<u32>) -> rusqlite::Result<()> {
        let columns = columns(record).unwrap_or_default();
        let [Column::Null, Column::Blob(blob)] = columns[..] else { return Ok(()) };
        if let Some(row) = message(key, record) {
            let sequence = key as u64;
            let Some(known) = self.known(row.stream) else { return Ok(()) };
            if known.deleted || sequence < known.erased || only.is_some_and(|only| only != row.stream) {
                return Ok(());
            }
            self.make(row.stream)?;
            let sql = format!("INSERT OR IGNORE INTO m{} VALUES (?, ?)", row.stream);
            let inserted = self.fresh.prepare_cached(&sql)?.execute((key, blob))?;
            if let Some(known) = self.known(row.stream) {
                known.messages += inserted as u64;
                known.last = known.last.max(sequence);
            }
        } else if only.is_none() && decode_chunk(key as u64, blob).is_some() {
            self.fresh.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?, ?)")?.execute((key, blob))?;
        }
        Ok(())
    }
}

/// The message in a row, if it is one and whole.
fn message(key: i64, record: &[u8]) -> Option<Row<'_>> {
    let columns = columns(record)?;
    let [Column::Null, Column::Blob(blob)] = columns[..] else { return None };
    u64::try_from(key).ok().and_then(|sequence| Row::decode(sequence, blob))
}
