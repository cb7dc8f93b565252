// Package setting holds the types of settings that several packages share: [Secret], which no log shows, [ByteSize],
// [Key] for keys that are rotated, [File] for a file that is read with the settings, and [TLSConfig] for servers that are called over
// TLS, whose files [TLSFiles] reads again when they change. [ParseNetwork] parses addresses and networks, [AllowsAddress] decides where
// another server may lead, [ValidateHeaderNames] looks through header fields, [IsReservedHeader] tells which of a viewer's no backend gets,
// and [MatchesChannel] is the one wildcard of channels. It imports nothing of usher's, and every package may import it.
package setting
