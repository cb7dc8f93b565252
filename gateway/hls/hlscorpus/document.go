package hlscorpus

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

func isDocument(body string) bool {
	return strings.HasPrefix(strings.TrimLeft(strings.TrimPrefix(body, "\ufeff"), " \t\r\n"), "{")
}

// readDocument returns the URIs of a document, and the document without them and without what says the host of a
// pathway.
func readDocument(body string) (uris []URI, outside string) {
	decoder := json.NewDecoder(strings.NewReader(strings.TrimPrefix(body, "\ufeff")))
	decoder.UseNumber()
	var root map[string]any
	if err := decoder.Decode(&root); err != nil {
		return nil, body
	}
	take := func(object map[string]any, key string, role Role) {
		if text, isString := object[key].(string); isString {
			uris = append(uris, URI{role, text, text})
			object[key] = "\x00"
		}
	}
	for _, asset := range objects(root["ASSETS"]) {
		take(asset, "URI", List)
	}
	for _, date := range objects(root["DATERANGES"]) {
		take(date, "X-ASSET-URI", List)
		take(date, "X-ASSET-LIST", Object)
		if class, _ := date["CLASS"].(string); class == "com.apple.hls.daterange-schedule" || class == "com.apple.hls.preload" {
			take(date, "X-URI", Object)
		}
	}
	take(root, "RELOAD-URI", Object)
	for _, clone := range objects(root["PATHWAY-CLONES"]) {
		replacement, _ := clone["URI-REPLACEMENT"].(map[string]any)
		for _, key := range []string{"PER-VARIANT-URIS", "PER-RENDITION-URIS"} {
			uris, _ := replacement[key].(map[string]any)
			for _, id := range slices.Sorted(maps.Keys(uris)) {
				take(uris, id, List)
			}
		}
		withoutHost(replacement)
	}
	text, _ := json.Marshal(root) // never fails for what was decoded
	return uris, string(text)
}

// withoutHost removes what says the host of a pathway.
func withoutHost(replacement map[string]any) {
	delete(replacement, "HOST")
	delete(replacement, "X-HOST")
	parameters, isObject := replacement["PARAMS"].(map[string]any)
	delete(parameters, "_HLS_host")
	if !isObject || len(parameters) == 0 {
		delete(replacement, "PARAMS")
	}
}

// objects returns the objects in an array.
func objects(value any) []map[string]any {
	var all []map[string]any
	array, _ := value.([]any)
	for _, element := range array {
		if object, isObject := element.(map[string]any); isObject {
			all = append(all, object)
		}
	}
	return all
}
