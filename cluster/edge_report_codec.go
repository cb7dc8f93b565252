package cluster

import "usher/backends"

// The fields of an edge's report. They follow the rules of the fields of a record.
const (
	edgeFacts = iota + 1 // bits
	edgeAstraSession
	edgeFlussonicSession
	edgeOrigin
	edgeProtocol
)

// The bits of edgeFacts. The first one is always set, since a report without facts is a report too.
const (
	edgeReported = 1 << iota
	edgeHasSession
	edgeHasChannel
	edgeHasPath
	edgeHasHost
	edgeIsArchive
)

func encodeEdgeReport(e *backends.EdgeReport) string {
	facts := edgeReported
	for _, bit := range []struct {
		isSet bool
		value int
	}{
		{e.HasSession, edgeHasSession},
		{e.HasChannel, edgeHasChannel},
		{e.HasPath, edgeHasPath},
		{e.HasHost, edgeHasHost},
		{e.IsArchive, edgeIsArchive},
	} {
		if bit.isSet {
			facts |= bit.value
		}
	}
	var f fields
	f = f.number(edgeFacts, int64(facts))
	f = f.text(edgeAstraSession, e.AstraSession)
	f = f.text(edgeFlussonicSession, e.FlussonicSession)
	f = f.text(edgeOrigin, e.Origin)
	f = f.text(edgeProtocol, e.Protocol)
	return string(f)
}

func decodeEdgeReport(data []byte) (*backends.EdgeReport, error) {
	e := &backends.EdgeReport{}
	err := readFields(data, func(tag byte, value []byte) error {
		switch tag {
		case edgeFacts:
			facts, err := readNumber(value)
			if err != nil {
				return err
			}
			e.HasSession, e.HasChannel = facts&edgeHasSession != 0, facts&edgeHasChannel != 0
			e.HasPath, e.HasHost = facts&edgeHasPath != 0, facts&edgeHasHost != 0
			e.IsArchive = facts&edgeIsArchive != 0
		case edgeAstraSession:
			e.AstraSession = string(value)
		case edgeFlussonicSession:
			e.FlussonicSession = string(value)
		case edgeOrigin:
			e.Origin = string(value)
		case edgeProtocol:
			e.Protocol = string(value)
		}
		return nil
	})
	return e, err
}
