//! Who is connected, who wants what, and where a message goes.
