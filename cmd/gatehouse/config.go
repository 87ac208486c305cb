package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gatehouse.dev/gatehouse/configs"
)

func newConfig(s streams) *cobra.Command {
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Report all faults of a configuration file, each with its place",
		Args:  exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := configs.Load(args[0], os.LookupEnv)
			var faults configs.Faults
			if errors.As(err, &faults) {
				for _, fault := range faults {
					fmt.Fprintln(s.out, fault)
				}
				fmt.Fprintln(s.err, count(len(faults), "fault"))
				return errSilent
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.out, "%s: no faults\n", args[0])
			return err
		},
	}
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of the configuration file, for editors",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			document, err := configs.Schema()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.out, "%s\n", document)
			return err
		},
	}
	return group(&cobra.Command{Use: "config", Short: "Check configuration files"}, check, schema)
}
