package peers

import (
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"time"

	"usher/bench/process"
)

// Options say what a peer serves.
type Options struct {
	// Origin is the base URL of the media. It has no path.
	Origin string
	// Auth is the URL at which the middleware is asked, with the parameters token, channel and ip. It answers 200, 401 or 403.
	Auth string
	// Folder has the files that nginx-static serves; empty: a folder without any.
	Folder string
	// Workers is the number of processes or threads; 0: one for each CPU.
	Workers int
	// AuthTTL is how long an answer that allows is kept, in whole seconds; 0: 30 s. One that denies is kept for 10 s.
	AuthTTL time.Duration
}

// Peer is a server that runs.
type Peer struct {
	Recipe
	// URL is its base URL. AuthURL is where edges ask it, with X-Original-URI and X-Real-IP; empty: they cannot.
	URL, AuthURL string

	process *process.Process
	port    *process.Port
	state   string
	secret  string
}

// Start starts a peer, and waits until it serves or ctx ends.
func Start(ctx context.Context, name string, o Options) (*Peer, error) {
	r, program, modules, err := find(name)
	if err != nil {
		return nil, err
	}
	p := &Peer{Recipe: r}
	if p.state, err = os.MkdirTemp("", "usher-peer-"); err != nil {
		return nil, err
	}
	if err := p.start(ctx, program, modules, o); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), p.Close())
	}
	return p, nil
}

func (p *Peer) start(ctx context.Context, program string, modules []string, o Options) error {
	// nginx's workers and varnish's child run as other users if the harness is root.
	if err := os.Chmod(p.state, 0o755); err != nil {
		return err
	}
	s, err := newSettings(p.state, modules, o)
	if err != nil {
		return err
	}
	if p.port, err = process.ReservePort(); err != nil {
		return err
	}
	s.Listen = p.port.Address
	main, err := p.write(s)
	if err != nil {
		return err
	}
	p.URL, p.secret = "http://"+s.Listen, s.Secret
	if p.HasAuthURL {
		p.AuthURL = p.URL + "/authz"
	}
	if p.process, err = process.Start(p.command(ctx, program, main, s)); err != nil {
		return err
	}
	return p.await(ctx)
}

// command returns how the program is started: in the foreground, as a child of the harness.
func (p *Peer) command(ctx context.Context, program, main string, s settings) *exec.Cmd {
	args := map[string][]string{
		"nginx":    {"-p", s.State, "-e", "stderr", "-c", main},
		"varnishd": {"-F", "-j", "none", "-n", s.State + "/varnish", "-f", main, "-a", s.Listen, "-T", "none", "-s", "malloc,512m"},
		"haproxy":  {"-db", "-f", main},
		"caddy":    {"run", "--config", main, "--adapter", "caddyfile"},
	}[p.Program]
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, args...) // Close ends it
	// Caddy keeps what it writes in the home folder otherwise.
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+s.State, "XDG_CONFIG_HOME="+s.State, "GOMAXPROCS="+strconv.Itoa(s.Workers))
	return cmd
}

// await waits until the peer answers a request, whatever its answer. The recipe may ask the middleware about it.
func (p *Peer) await(ctx context.Context) error {
	const pause = 20 * time.Millisecond
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/", http.NoBody)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err == nil {
			return answer.Body.Close()
		}
		select {
		case <-p.process.Ended():
			return fmt.Errorf("it ended: %s", p.process.Output())
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", err, p.process.Output())
		case <-time.After(pause):
		}
	}
}

// PID returns the process whose tree is the peer; see [process.CPU].
func (p *Peer) PID() int { return p.process.PID() }

// Died returns an error with the end of what the peer wrote if it has ended by itself.
func (p *Peer) Died() error {
	if err := p.process.Err(); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// Close ends the peer and removes its folder.
func (p *Peer) Close() error {
	if p.process != nil {
		p.process.Stop()
	}
	p.port.Release()
	return os.RemoveAll(p.state)
}

// Request returns the URL by which a viewer at 127.0.0.1 requests a path: with their token, or with what the recipe wants in
// its place.
func (p *Peer) Request(file, token string) string {
	const validity = 24 * time.Hour
	query := "token=" + url.QueryEscape(token)
	if p.Name == "nginx-securelink" {
		expires := strconv.FormatInt(time.Now().Add(validity).Unix(), 10)
		sum := md5.Sum([]byte(expires + path.Dir(file) + "127.0.0.1 " + p.secret))
		query += "&expires=" + expires + "&md5=" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return p.URL + file + "?" + query
}

// settings are what the recipes are filled with.
type settings struct {
	// State is the folder of the peer. Folder has the files of nginx-static.
	State, Folder string
	// Listen, Origin and AuthHost are "host:port".
	Listen, Origin, AuthHost           string
	OriginName, OriginPort             string
	AuthName, AuthPort, AuthPath, Auth string
	Workers, OpenFiles, Connections    int
	AuthTTLSeconds                     int
	AuthTTL, Secret                    string
	IsRoot                             bool
	Modules                            []string
}

func newSettings(state string, modules []string, o Options) (settings, error) {
	origin, err := parseBase(o.Origin)
	if err != nil {
		return settings{}, fmt.Errorf("origin: %w", err)
	}
	auth, err := parseBase(o.Auth)
	if err != nil {
		return settings{}, fmt.Errorf("auth: %w", err)
	}
	s := settings{
		State: state, Folder: o.Folder, Origin: origin.Host, Auth: o.Auth, AuthHost: auth.Host, AuthPath: auth.Path,
		Workers: o.Workers, Secret: rand.Text(), IsRoot: os.Geteuid() == 0, Modules: modules,
	}
	if s.Folder == "" {
		s.Folder = state + "/empty"
	}
	if s.Workers == 0 {
		s.Workers = runtime.NumCPU()
	}
	seconds := int(cmp.Or(o.AuthTTL, defaultAuthTTL) / time.Second)
	if seconds < 1 {
		return settings{}, fmt.Errorf("auth TTL: %s is below 1s", o.AuthTTL)
	}
	s.AuthTTLSeconds, s.AuthTTL = seconds, strconv.Itoa(seconds)+"s"
	s.OriginName, s.OriginPort, _ = net.SplitHostPort(origin.Host) // parseBase has split it
	s.AuthName, s.AuthPort, _ = net.SplitHostPort(auth.Host)
	s.OpenFiles = openFiles()
	s.Connections = s.OpenFiles / 3
	return s, nil
}

const defaultAuthTTL = 30 * time.Second

var errBase = errors.New("is no URL such as http://127.0.0.1:8000")

// parseBase parses a URL with http, a host and a port.
func parseBase(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" {
		return nil, fmt.Errorf("%q %w", text, errBase)
	}
	return u, nil
}
