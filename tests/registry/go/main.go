// Hamba's decoder with its registry, as a consumer of outputs has it.
//
// stock REGISTRY: lines of base64 in, JSON out.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/hamba/avro/v2/registry"
)

func main() {
	client, err := registry.NewClient(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	decoder := registry.NewDecoder(client)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		message, err := base64.StdEncoding.DecodeString(lines.Text())
		if err != nil {
			log.Fatal(err)
		}
		var record map[string]any
		if err := decoder.Decode(context.Background(), message, &record); err != nil {
			log.Fatal(err)
		}
		shown, err := json.Marshal(record)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(shown))
	}
}
