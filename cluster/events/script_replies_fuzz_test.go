package events

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

// FuzzParsePage_Reply reads what Redis may answer in the place of a script's reply: lists of lists, texts, numbers and nothing.
func FuzzParsePage_Reply(f *testing.F) {
	f.Add([]byte(`[1700000000000, "epoch", "1700000000000-3", "0-0", [["1700000000000-1", "{}"], ["1700000000000-3", "{}"]]]`))
	f.Add([]byte(`["0", [["ban", 60000, "{}"]], [["unbanned", 5000]]]`))
	f.Add([]byte(`["17", [["ban"], "ban", null], [[], ["unbanned", "soon"]], 4]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, ok := scriptReply(data)
		if !ok {
			return
		}
		if page, err := parsePage(reply); err == nil {
			for _, e := range page.entries {
				if again, isID := parseStreamID(e.id.String()); !isID || again != e.id {
					t.Errorf("entry %v cannot be asked for again", e.id)
				}
			}
		}
		s, now := newBanSync(Options{Cipher: goldenCipher(t), Logger: slog.New(slog.DiscardHandler)}), time.Now()
		stored := storedBans{ids: map[string]struct{}{}, unbanned: map[string]time.Time{}}
		fields, _ := reply.([]any)
		s.addPage(&stored, append(fields, nil, nil, nil), now)
		for _, b := range stored.bans {
			if _, isListed := stored.ids[b.ID]; !isListed {
				t.Errorf("ban %q is not among the ids, so it would be stored again", b.ID)
			}
		}
	})
}

// scriptReply returns a reply as the Redis client has it. Numbers are whole.
func scriptReply(data []byte) (reply any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if d.Decode(&reply) != nil {
		return nil, false
	}
	return withInts(reply), true
}

func withInts(v any) any {
	switch v := v.(type) {
	case json.Number:
		n, _ := v.Int64()
		return n
	case []any:
		for i := range v {
			v[i] = withInts(v[i])
		}
	}
	return v
}
