// Package suite runs containerd's own conformance suite for snapshotters against a server of ours.
//
// A fresh server on a fresh store is started for every subtest: they run in parallel and use the same keys.
// WINDOWSFILTER is the program; -test.root is the suite's own flag, without which it skips everything.
package suite

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func TestSnapshotter(t *testing.T) {
	testsuite.SnapshotterSuite(t, "windowsfilter", start)
}

// start starts a server on a store of its own, and returns a client of it and what stops it. The store is not below the directory that the
// suite provides: of a failed subtest the suite prints all files there, and a sandbox is a file of 127 GB, most of them holes.
func start(ctx context.Context, _ string) (snapshots.Snapshotter, func() error, error) {
	root, err := os.MkdirTemp("", "store-")
	if err != nil {
		return nil, nil, err
	}
	socket := filepath.Join(root, "s")
	server := exec.Command(os.Getenv("WINDOWSFILTER"), "--root", filepath.Join(root, "store"), "serve",
		"--address", socket, "--containerd", filepath.Join(root, "no-containerd"))
	log, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		return nil, nil, err
	}
	server.Stdout, server.Stderr = log, log
	// No server outlives a suite that crashes.
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	conn, err := connect(ctx, socket)
	if err != nil {
		server.Process.Kill()
		server.Wait()
		text, _ := os.ReadFile(log.Name())
		return nil, nil, fmt.Errorf("server did not start: %w\n%s", err, text)
	}
	stop := func() error {
		conn.Close()
		if err := server.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if err := server.Wait(); err != nil {
			return err
		}
		if err := unmountBelow(root); err != nil {
			return err
		}
		return os.RemoveAll(root)
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "windowsfilter"), stop, nil
}

// connect waits until the server answers.
func connect(ctx context.Context, socket string) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return grpc.DialContext(ctx, "unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithBlock())
}

// unmountBelow unmounts what the server has mounted: it leaves its mounts to the server after it, and here there is none.
func unmountBelow(root string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		point := strings.Fields(lines[i])[4]
		if strings.HasPrefix(point, root+"/") {
			if err := syscall.Unmount(point, 0); err != nil {
				return fmt.Errorf("unmount %s: %w", point, err)
			}
		}
	}
	return nil
}
