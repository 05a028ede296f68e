//! What interrupts a forward, and where it is shown.
//!
//! Each row is a golden script in `testscripts` (commands in, frames and status out), an event of the random simulation, or both; those that a stock
//! hub decides are end-to-end tests too (`tests/e2e`). After each: nothing acknowledged locally is missing at the hub or held, nothing twice, order
//! kept, or the exact statement that the row allows. That the model of a hub in `hub.rs` answers as stock does is `tests/e2e/hub_model.rs`.
//!
//! | what happens | script | simulation | against stock |
//! |---|---|---|---|
//! | cut before the hub stores | `cut_before_the_hub_stores` | yes | `link_flap` |
//! | cut after the hub stores, before the ack | `cut_after_the_hub_stores` | yes | `link_flap` |
//! | cut after the ack | `cut_after_the_ack` | yes | `link_flap` |
//! | kill -9 of the edge at each point | `kill_of_the_edge`, `cut_after_the_hub_stores` | yes | `link_flap`, `uplink` |
//! | hub restart | `hub_restart` | yes | `link_flap`, `uplink` |
//! | hub leader change, an entry in doubt | `entry_in_doubt_commits_late` | as late bytes | no: one server |
//! | hub lost its unsynced tail | `hub_lost_its_tail` | yes | no: stock loses it only with its machine |
//! | hub stream purged | `hub_purged` | no | `link_flap` |
//! | deleted, re-created | `hub_stream_deleted`, `hub_stream_recreated` | no | `hub_model` |
//! | limited, full | `hub_limited` | no | `hub_model` |
//! | per-subject limited | `per_subject_limited` | no | no |
//! | sealed | `hub_sealed` | no | `hub_model` |
//! | work queue, interest: can't be asked | `work_queue` | no | no |
//! | second writer under the filter | `second_writer`, `second_writer_all_the_time` | yes | no |
//! | another stream answers on the same subject | `another_stream_answers` | no | no |
//! | second box with our identity | `second_box` | no | no |
//! | re-flash | `reflash` | no | no |
//! | restore of an old disk image | `restored_image` | no | no |
//! | refusal at the start, in the middle, at the end of a window | `refusal_in_a_batch`, `refused_header` | no | `forward`, `hub_model` |
//! | message too large for the hub | `too_large_for_the_hub`, `refusal_in_a_batch` | no | `forward` |
//! | permission withdrawn; the API denied; no interest | `permission_withdrawn`, `api_denied`, `no_interest` | no | no |
//! | hub not ready (503) | `hub_not_ready` | no | no |
//! | batch timeout under a low rate | `low_rate` | yes | no |
//! | clock jump | `clock_jump` | no | no |
//! | late bytes of a dead link | `late_bytes_of_a_dead_link` | yes | no |
//! | the local stream evicts what was not sent | `evicted_before_sent` | no | no |
//! | a record of what was lost goes before the data | `gap_record_first` | no | `gaps` |
//! | headers of a sensor that would command the hub | `headers_of_a_sensor` | no | no |
//!
//! The normal course of each way: `fast_ingest`, `atomic`, `single_and_old_hub`, `batch_sizes`; making the stream: `create`.

mod edge;
mod hub;
mod script;
mod simulation;
