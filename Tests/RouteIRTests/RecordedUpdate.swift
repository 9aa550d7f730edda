// A hand-over frame of format 2 with every field, as the first release that wrote that format made it.

let recordedUpdate = ""
