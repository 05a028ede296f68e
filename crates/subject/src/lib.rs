//! NATS subjects, filters, transforms and the index of who wants a subject.
