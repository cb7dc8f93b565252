package setting

// ViewerField is what a setting of a backend reads of a viewer's request: a query parameter or a header field.
type ViewerField struct {
	// Setting is the key, relative to the backend's.
	Setting string
	// Parameter or Header is the field's name. The other one is empty.
	Parameter, Header string
	// IsAnyCase reports that the parameter is read in any case, as a header field always is.
	IsAnyCase bool
	// IsNumber reports that the parameter's value is one, as that of a parameter is that only defeats caches.
	IsNumber bool
	// Credential names the credential of which the field is a part; empty: of none. A backend that has some allows no viewer who shows
	// none of them whole.
	Credential string
	// IsRequired reports that the setting has no effect where no viewer's field reaches the backend.
	IsRequired bool
}

// String returns where a route names the field to pass it on, such as "token in credentials".
func (f ViewerField) String() string {
	if f.Header != "" {
		return f.Header + " in credential_headers"
	}
	return f.Parameter + " in credentials"
}
