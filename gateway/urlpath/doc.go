// Package urlpath decides which paths of requests may be routed, and which may be sent to an origin.
//
// A path means what its bytes say. An origin may read it differently: it decodes once more, accepts overlong UTF-8, maps
// full-width characters to ASCII, or drops what ends a name. Such a look-alike names another folder or channel than the
// one that was decided on.
//
// Decided: look-alikes are refused, not cleaned, because no player makes them up. What a playlist lists is the caller's to
// allow. Letters of any language, spaces within
// a name and single bytes of older encodings are no look-alikes. Dots of other alphabets count only where a whole
// segment is made of them, because titles have them.
package urlpath
