package peers

import (
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/template"
)

//go:embed recipes
var recipes embed.FS

// Asks says when a recipe asks the middleware.
type Asks string

// The values of Asks.
const (
	Never      Asks = "never"
	EachTime   Asks = "each time"
	WhenUnsure Asks = "when it has no answer kept"
)

// Recipe describes a peer.
type Recipe struct {
	Name string
	Asks Asks
	// Program is its program, Package the Debian package that has it.
	Program, Package string
	// modules are files beside the program's other modules, of modulePackage.
	modules       []string
	modulePackage string
	// HasAuthURL says that edges can ask it, by the path /authz.
	HasAuthURL bool
	// main is the configuration's file in recipes, and further are others that it loads, by their name there.
	main    string
	further map[string]string
}

func nginx(name string, asks Asks, hasAuthURL bool) Recipe {
	return Recipe{
		Name: name, Asks: asks, Program: "nginx", Package: "nginx", HasAuthURL: hasAuthURL, main: name + ".conf",
	}
}

// all returns the recipes in the order in which reports show them.
func all() []Recipe {
	lua := nginx("nginx-lua", WhenUnsure, true)
	lua.modules, lua.modulePackage = []string{"ndk_http_module.so", "ngx_http_lua_module.so"}, "libnginx-mod-http-lua"
	return []Recipe{
		nginx("nginx-static", Never, true),
		nginx("nginx-cache", Never, false),
		nginx("nginx-auth-each", EachTime, true),
		nginx(Yardstick, WhenUnsure, true),
		nginx("nginx-failopen", WhenUnsure, false),
		lua,
		nginx("nginx-securelink", Never, false),
		{Name: "varnish", Asks: WhenUnsure, Program: "varnishd", Package: "varnish", main: "varnish.vcl"},
		{
			Name: "haproxy", Asks: EachTime, Program: "haproxy", Package: "haproxy", main: "haproxy.cfg",
			further: map[string]string{"auth.lua": "haproxy.lua"},
		},
		{Name: "caddy", Asks: EachTime, Program: "caddy", Package: "caddy", main: "Caddyfile"},
	}
}

// Yardstick is the peer with which Usher is compared.
const Yardstick = "nginx-auth"

// Names returns the names of all peers.
func Names() []string {
	var names []string
	for _, r := range all() {
		names = append(names, r.Name)
	}
	return names
}

// The errors of Find.
var (
	ErrUnknown = errors.New("unknown peer")
	// ErrMissing is wrapped by an error that names the package to install.
	ErrMissing = errors.New("not installed")
)

// Find returns the recipe of that name if all that it needs is installed.
func Find(name string) (Recipe, error) {
	r, _, _, err := find(name)
	return r, err
}

// find also returns the files of the program and of its modules.
func find(name string) (r Recipe, program string, modules []string, err error) {
	known := all()
	i := slices.IndexFunc(known, func(r Recipe) bool { return r.Name == name })
	if i < 0 {
		return Recipe{}, "", nil, fmt.Errorf("%w %q, want one of %v", ErrUnknown, name, Names())
	}
	r = known[i]
	if program = lookUp(r.Program); program == "" {
		return r, "", nil, missing(r.Name, r.Program, r.Package)
	}
	for _, m := range r.modules {
		file := lookUpModule(m)
		if file == "" {
			return r, "", nil, missing(r.Name, m, r.modulePackage)
		}
		modules = append(modules, file)
	}
	return r, program, modules, nil
}

func missing(name, file, debian string) error {
	return fmt.Errorf("%s: %s is %w: apt-get install -y %s", name, file, ErrMissing, debian)
}

// lookUp returns the file of a program in PATH, or in a folder sbin beside one of PATH, where Debian has servers and which is
// in root's PATH only. Empty: there is none.
func lookUp(program string) string {
	for _, folder := range filepath.SplitList(os.Getenv("PATH")) {
		for _, f := range []string{folder, filepath.Join(filepath.Dir(folder), "sbin")} {
			file := filepath.Join(f, program)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file
			}
		}
	}
	return ""
}

// lookUpModule returns the file of a module of nginx; empty: there is none.
func lookUpModule(name string) string {
	for _, folder := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules"} {
		file := filepath.Join(folder, name)
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}

// write writes the recipe's files to the folder, and returns the main one's name.
func (r Recipe) write(s settings) (string, error) {
	texts, err := template.ParseFS(recipes, "recipes/*")
	if err != nil {
		return "", fmt.Errorf("recipes: %w", err)
	}
	files := map[string]string{r.main: r.main}
	maps.Copy(files, r.further)
	for name, source := range files {
		file, err := os.OpenFile(filepath.Join(s.State, name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return "", err
		}
		err = texts.ExecuteTemplate(file, source, s)
		if err := errors.Join(err, file.Close()); err != nil {
			return "", fmt.Errorf("write %s: %w", name, err)
		}
	}
	return filepath.Join(s.State, r.main), nil
}
