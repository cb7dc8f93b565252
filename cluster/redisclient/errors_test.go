package redisclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/backends"
	"usher/cluster/redistest"
)

// writeScript returns a script that writes a hash, as those of this program do.
func writeScript() *Script {
	return newScript("write", "return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")
}

// newTestClient returns a client of a server at a socket, and its log. Its timeout is long enough for a busy machine.
func newTestClient(t *testing.T, socket string, edit func(*Config)) (*Client, *redistest.Log) {
	t.Helper()
	log, c := new(redistest.Log), Config{Addresses: []string{socket}, KeyPrefix: "usher", PoolSize: 8}
	if edit != nil {
		edit(&c)
	}
	client, err := New(c, 2*time.Second, slog.New(slog.NewTextHandler(log, nil)))
	must(t, err)
	t.Cleanup(client.Close)
	return client, log
}

// callUntil makes calls until one ends with such an error. moreArgs are further arguments of the script.
func callUntil(t *testing.T, c *Client, want string, moreArgs ...any) error {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Logf("the last reply: %v", err)
		}
	}()
	redistest.Eventually(t, "a reply of "+want, func() bool {
		_, err = c.Run(t.Context(), writeScript(), []string{"usher:x"}, append([]any{"a", "1"}, moreArgs...)...)
		return err != nil && strings.Contains(err.Error(), want)
	})
	return err
}

// TestClient_ErrorReplies_RealServer makes a real server give the error replies that it can.
func TestClient_ErrorReplies_RealServer(t *testing.T) {
	t.Parallel()
	set := func(pairs ...string) func(*testing.T, *redistest.Server) {
		return func(t *testing.T, s *redistest.Server) {
			for i := 0; i < len(pairs); i += 2 {
				must(t, s.Client.ConfigSet(t.Context(), pairs[i], pairs[i+1]).Err())
			}
		}
	}
	command := func(args ...any) func(*testing.T, *redistest.Server) {
		return func(t *testing.T, s *redistest.Server) { must(t, s.Client.Do(t.Context(), args...).Err()) }
	}
	for want, test := range map[string]struct {
		args   []string // of the server
		edit   func(*Config)
		before func(*testing.T, *redistest.Server) // the client's first call
		after  func(*testing.T, *redistest.Server)
		// moreArgs are further arguments of the client's calls.
		moreArgs []any
		isBug    bool
		advice   string
	}{
		"OOM":                   {after: set("maxmemory", "1"), advice: "maxmemory"},
		"NOREPLICAS":            {after: set("min-replicas-to-write", "1"), advice: "min-replicas"},
		"READONLY":              {after: command("REPLICAOF", "127.0.0.1", "1"), advice: "name the master"},
		"MASTERDOWN":            {args: []string{"--replica-serve-stale-data", "no"}, after: command("REPLICAOF", "127.0.0.1", "1")},
		"NOAUTH":                {before: set("requirepass", "a password"), advice: "cluster.redis.password"},
		"WRONGPASS":             {before: set("requirepass", "a password"), edit: func(c *Config) { c.Password = "another" }, advice: "cluster.redis.password"},
		"unauthenticated":       {before: set("requirepass", "a password"), moreArgs: slices.Repeat([]any{"more"}, 20), advice: "cluster.redis.password"},
		"NOPERM":                {after: command("ACL", "SETUSER", "default", "-@scripting"), advice: "rights"},
		"CLUSTERDOWN":           {args: []string{"--cluster-enabled", "yes"}, advice: "cluster.redis.cluster"},
		"ERR unknown command":   {args: []string{"--rename-command", "EVALSHA", ""}, advice: "rename-command"},
		"Unknown Redis command": {args: []string{"--rename-command", "HSET", ""}, advice: "rename-command"},
		"MISCONF":               {args: []string{"--save", "3600 1", "--enable-protected-configs", "yes"}, after: failSave, advice: "cannot save"},
		"BUSY":                  {args: []string{"--lua-time-limit", "1"}, after: runForLong},
		"LOADING":               {args: []string{"--enable-debug-command", "yes"}, after: reloadSlowly},
		"ERR DB index":          {edit: func(c *Config) { c.Database = 1000 }, advice: "cluster.redis.database"},
		"WRONGTYPE":             {after: command("SET", "usher:x", "not a hash"), isBug: true},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, test.args...)
			if test.before != nil {
				test.before(t, server)
			}
			client, log := newTestClient(t, server.Socket, test.edit)
			if test.after != nil {
				_, err := client.Run(t.Context(), writeScript(), []string{"usher:x"}, "a", "1")
				must(t, err)
				must(t, server.Client.Del(t.Context(), "usher:x").Err())
				test.after(t, server)
			}
			wantClass(t, client, log, callUntil(t, client, want, test.moreArgs...), test.isBug, test.advice)
		})
	}
}

// wantClass checks what an error means to the callers and in the log.
func wantClass(t *testing.T, client *Client, log *redistest.Log, err error, isBug bool, advice string) {
	t.Helper()
	if isBug == errors.Is(err, backends.ErrStoreUnavailable) || isBug != (log.Count("BUG") > 0) {
		t.Errorf("bug: %t, want %t: %v\n%s", !isBug, isBug, err, log)
	}
	if isBug {
		return
	}
	redistest.Eventually(t, "redis is unavailable", func() bool {
		_, _ = client.Run(t.Context(), writeScript(), []string{"usher:x"}, "a", "1")
		return log.Count("redis unavailable") > 0
	})
	if got := adviceOn(err); !strings.Contains(got, advice) || (got == "") != (advice == "") {
		t.Errorf("the advice on %v is %q, want %q in it", err, got, advice)
	}
	if advice != "" && log.Count("advice=") == 0 {
		t.Errorf("no advice in the log:\n%s", log)
	}
}

// failSave has a save fail.
func failSave(t *testing.T, s *redistest.Server) {
	folder := s.Client.ConfigGet(t.Context(), "dir").Val()["dir"]
	must(t, os.MkdirAll(filepath.Join(folder, "a folder.rdb", "x"), 0o700))
	must(t, s.Client.ConfigSet(t.Context(), "dbfilename", "a folder.rdb").Err())
	_ = s.Client.BgSave(t.Context())
	redistest.Eventually(t, "the save fails", func() bool {
		return strings.Contains(s.Client.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
}

// runForLong runs a script until the test ends.
func runForLong(t *testing.T, s *redistest.Server) {
	go s.Client.Eval(context.Background(), "while true do end", nil)
	redistest.Eventually(t, "the script runs", func() bool {
		return strings.HasPrefix(fmt.Sprint(s.Client.Ping(t.Context()).Err()), "BUSY")
	})
}

// reloadSlowly has the server load its data until the test ends.
func reloadSlowly(t *testing.T, s *redistest.Server) {
	for i := range 2000 {
		must(t, s.Client.Set(t.Context(), fmt.Sprint("key", i), "x", time.Hour).Err())
	}
	must(t, s.Client.ConfigSet(t.Context(), "key-load-delay", "20000").Err())
	must(t, s.Client.ConfigSet(t.Context(), "loading-process-events-interval-bytes", "1024").Err())
	go s.Client.Do(context.Background(), "DEBUG", "RELOAD")
	redistest.Eventually(t, "the server loads", func() bool {
		return strings.HasPrefix(fmt.Sprint(s.Client.Get(t.Context(), "key1").Err()), "LOADING")
	})
}

// TestClient_ErrorReplies_ScriptedServer gives the error replies that the installed version cannot, or of other versions.
func TestClient_ErrorReplies_ScriptedServer(t *testing.T) {
	t.Parallel()
	const call = "ERR Error running script (call to f_0123456789abcdef0123456789abcdef01234567): @user_script:19: "
	for reply, test := range map[string]struct {
		isBug  bool
		advice string
	}{
		"MOVED 3999 127.0.0.1:6381":                                                              {advice: "cluster.redis.cluster"},
		"ASK 3999 127.0.0.1:6381":                                                                {advice: "cluster.redis.cluster"},
		"REDIRECT 127.0.0.1:6381":                                                                {advice: "name the master"},
		"TRYAGAIN Multiple keys request during rehashing of slot":                                {},
		"UNKILLABLE The busy script was sent by a master instance":                               {},
		"UNBLOCKED force unblock from blocking operation, instance state changed":                {},
		"EXECABORT Transaction discarded because of previous errors.":                            {},
		"INPROG Failover already in progress":                                                    {},
		"DENIED Redis is running in protected mode because protected mode is enabled":            {advice: "protected-mode"},
		"NOAUTH HELLO must be called with the client already authenticated":                      {advice: "cluster.redis.password"},
		"ERR Protocol error: unauthenticated bulk length":                                        {advice: "cluster.redis.password"},
		"ERR max number of clients reached":                                                      {advice: "maxclients"}, // or only a broken pipe
		"ERR max number of clients + cluster connections reached":                                {advice: "maxclients"},
		"ERR unknown command `EVALSHA`, with args beginning with: ":                              {advice: "rename-command"},
		"ERR This instance has cluster support disabled":                                         {advice: "cluster.redis.cluster"},
		"NOPERM this user has no permissions to run the 'evalsha' command":                       {advice: "rights"},
		"ERR a reply that no version has given so far":                                           {},
		"FUTURE a code that no version has given so far":                                         {},
		call + "@user_script: 19: -OOM command not allowed when used memory > 'maxmemory'.":      {advice: "maxmemory"},
		call + "-READONLY You can't write against a read only replica.":                          {advice: "name the master"},
		call + "-MISCONF Redis is configured to save RDB snapshots":                              {advice: "cannot save"},
		call + "-NOREPLICAS Not enough good replicas to write.":                                  {advice: "min-replicas"},
		call + "@user_script: 19: Unknown Redis command called from Lua script":                  {advice: "rename-command"},
		call + "WRONGTYPE Operation against a key holding the wrong kind of value":               {isBug: true},
		call + "attempt to index a nil value":                                                    {isBug: true},
		"ERR user_script:19: attempt to compare nil with number script: 01, on @user_script:19.": {isBug: true},
		"ERR Error compiling script (new function): user_script:1: '=' expected":                 {isBug: true},
		"CROSSSLOT Keys in request don't hash to the same slot":                                  {isBug: true},
		"BUSYKEY Target key name already exists.":                                                {isBug: true},
		"ERR wrong number of arguments for 'evalsha' command":                                    {isBug: true},
	} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			client, log := newTestClient(t, serveReply(t, reply), nil)
			code, _, _ := strings.Cut(reply, " ")
			wantClass(t, client, log, callUntil(t, client, code), test.isBug, test.advice)
		})
	}
}

// serveReply runs a server that gives each command that error reply, and returns the path of its socket.
func serveReply(t *testing.T, reply string) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "resp") // a test's own folder has too long a name for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "s"))
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go replyTo(conn, reply)
		}
	}()
	return listener.Addr().String()
}

func replyTo(conn net.Conn, reply string) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		name, err := readCommand(in)
		if err != nil {
			return
		}
		answer := "-" + reply + "\r\n"
		if strings.EqualFold(name, "hello") {
			answer = "%1\r\n+server\r\n+redis\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// readCommand reads a command and returns its name.
func readCommand(in *bufio.Reader) (name string, err error) {
	readLength := func() (n int, err error) {
		line, err := in.ReadString('\n')
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(line[1:]))
		}
		return n, err
	}
	count, err := readLength()
	for i := 0; i < count && err == nil; i++ {
		var size int
		if size, err = readLength(); err == nil {
			word := make([]byte, size+2)
			_, err = io.ReadFull(in, word)
			if i == 0 {
				name = string(word[:size])
			}
		}
	}
	return name, err
}

// TestClassify has a reply of each kind that this program can get, as Redis 6 to 8 and Valkey write it.
func TestClassify(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]struct {
		class  replyClass
		advice string
	}{
		"BUSYKEY Target key name already exists.":                           {wrongCall, ""},
		"BUSYGROUP Consumer Group name already exists":                      {wrongCall, ""},
		"WRONGTYPE Operation against a key holding the wrong kind of value": {wrongCall, ""},
		"CROSSSLOT Keys in request don't hash to the same slot":             {wrongCall, ""},
		"NOGROUP No such key 'x' or consumer group 'y'":                     {wrongCall, ""},
		"ERR wrong number of arguments for 'hset' command":                  {wrongCall, ""},
		"ERR Wrong number of args calling Redis command from script":        {wrongCall, ""},
		"ERR syntax error": {wrongCall, ""},
		"ERR value is not an integer or out of range":                                      {wrongCall, ""},
		"ERR hash value is not an integer":                                                 {wrongCall, ""},
		"ERR invalid expire time in 'set' command":                                         {wrongCall, ""},
		"ERR Error compiling script (new function): user_script:1: '=' expected":           {wrongCall, ""},
		"ERR The ID specified in XADD is equal or smaller than the target stream top item": {wrongCall, ""},
		"NOAUTH Authentication required.":                                                  {needsOperator, adviceOnPassword},
		"WRONGPASS invalid username-password pair or user is disabled.":                    {needsOperator, adviceOnPassword},
		"ERR Protocol error: unauthenticated multibulk length":                             {needsOperator, adviceOnPassword},
		"ERR unauthenticated bulk length":                                                  {needsOperator, adviceOnPassword},
		"ERR AUTH <password> called without any password configured for the default user.": {needsOperator, adviceOnNoPassword},
		"ERR Client sent AUTH, but no password is set":                                     {needsOperator, adviceOnNoPassword},
		"NOPERM this user has no permissions to run the 'evalsha' command":                 {needsOperator, adviceOnRights},
		"ERR The user executing the script can't run this command or subcommand":           {needsOperator, adviceOnRights},
		"DENIED Redis is running in protected mode":                                        {needsOperator, "give Redis a password, or set its protected-mode"},
		"OOM command not allowed when used memory > 'maxmemory'.":                          {needsOperator, "raise Redis' maxmemory"},
		"MISCONF Redis is configured to save RDB snapshots":                                {needsOperator, "Redis cannot save: see its log"},
		"ERR unknown command 'EVALSHA', with args beginning with:":                         {needsOperator, adviceOnCommands},
		"ERR Unknown Redis command called from script":                                     {needsOperator, adviceOnCommands},
		"Unknown Redis command called from Lua script":                                     {needsOperator, adviceOnCommands},
		"ERR This Redis command is not allowed from script":                                {needsOperator, adviceOnCommands},
		"ERR DB index is out of range":                                                     {needsOperator, adviceOnDatabase},
		"ERR invalid DB index":                                                             {needsOperator, adviceOnDatabase},
		"ERR SELECT is not allowed in cluster mode":                                        {needsOperator, "remove cluster.redis.database"},
		"ERR This instance has cluster support disabled":                                   {needsOperator, "remove cluster.redis.cluster"},
		"NOPROTO unsupported protocol version":                                             {needsOperator, "use Redis 6 or newer"},
		"LOADING Redis is loading the dataset in memory":                                   {temporary, ""},
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": {temporary, ""},
		"READONLY You can't write against a read only replica.":                            {temporary, "have cluster.redis name the master"},
		"REDIRECT 127.0.0.1:6381":                                                          {temporary, "have cluster.redis name the master"},
		"CLUSTERDOWN Hash slot not served":                                                 {temporary, "set cluster.redis.cluster, and see CLUSTER INFO"},
		"MOVED 3999 127.0.0.1:6381":                                                        {temporary, "set cluster.redis.cluster"},
		"ASK 3999 127.0.0.1:6381":                                                          {temporary, "set cluster.redis.cluster"},
		"BUSY Redis is busy running a script.":                                             {temporary, ""},
		"NOREPLICAS Not enough good replicas to write.":                                    {temporary, "see Redis' min-replicas-to-write"},
		"ERR max number of clients reached":                                                {temporary, "raise Redis' maxclients, or lower cluster.redis.pool_size"},
		"ERR a reply that no version has given so far":                                     {temporary, ""},
		"": {temporary, ""},
		"ERR user_script:19: attempt to index a nil value script: 01, on @user_script:19.":                   {wrongCall, ""},
		"ERR user_script:19: ERR Unknown Redis command called from script script: 01, on @user_script:19.":   {needsOperator, adviceOnCommands},
		"ERR Error running script (call to f_01): @user_script:19: @user_script: 19: ERR syntax error":       {wrongCall, ""},
		"ERR Error running script (call to f_01): @user_script:19: -LOADING Redis is loading the dataset in": {temporary, ""},
	} {
		if class, advice := classify(reply); class != want.class || advice != want.advice {
			t.Errorf("%q: got %d and the advice %q, want %d and %q", reply, class, advice, want.class, want.advice)
		}
	}
}

// TestUnavailable_MarksOnce: an error that says it already keeps its text.
func TestUnavailable_MarksOnce(t *testing.T) {
	t.Parallel()
	cause := errors.New("broken pipe")
	once := unavailable(cause)
	if !errors.Is(once, backends.ErrStoreUnavailable) || !errors.Is(once, cause) {
		t.Errorf("got %v, want both errors", once)
	}
	if twice := unavailable(once); twice.Error() != once.Error() {
		t.Errorf("marked twice: %v", twice)
	}
	if got := unavailable(errExpired); got.Error() != errExpired.Error() {
		t.Errorf("marked twice: %v", got)
	}
}

// errorText is an error reply.
type errorText string

func (errorText) RedisError()     {}
func (e errorText) Error() string { return string(e) }

// networkReply is an error of the connection that the client library marks as its own.
type networkReply struct{ net.OpError }

func (*networkReply) RedisError()   {}
func (*networkReply) Error() string { return "WRONGTYPE, or so it reads" }

// TestIsUnavailable: a broken connection is an outage, whatever its error looks like.
func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"no reply":                     {errors.New("WRONGTYPE"), true},
		"a wrong call":                 {errorText("WRONGTYPE x"), false},
		"a wrong call, wrapped":        {fmt.Errorf("a script: %w", errorText("WRONGTYPE x")), false},
		"a server that does not serve": {errorText("LOADING x"), true},
		"one that needs the operator":  {errorText("OOM x"), true},
		"a broken connection":          {&networkReply{}, true},
	} {
		if got := isUnavailable(tc.err); got != tc.want {
			t.Errorf("%s: unavailable %v, want %v", name, got, tc.want)
		}
	}
}

// TestIsUnavailable_BrokenConnection: what no server wrote is a broken connection.
func TestIsUnavailable_BrokenConnection(t *testing.T) {
	t.Parallel()
	client, _ := newTestClient(t, filepath.Join(t.TempDir(), "nobody"), nil)
	if err := client.redis.Ping(t.Context()).Err(); !isUnavailable(err) || adviceOn(err) != "" {
		t.Errorf("no server counts as available: %v", err)
	}
}
